"""Where captions come from, without their images: blocks of (image key, captions) of a corpus.

A *unit* is a part of the corpus that one worker reads by itself: a file, a row group of a parquet file, a
byte range of a text file. `units` lists them, `read_unit` yields the images of one in order.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import fsspec
import pyarrow.parquet as pq

KINDS = ("coco", "webdataset", "parquet", "tsv", "text")
_IMAGE_CAPTIONS = tuple[str, list[str]]
_CSV_LIMIT = 1 << 24


@dataclass(frozen=True)
class CaptionSettings:
    """Which captions to read.

    Attributes:
        kind: coco (JSON) | webdataset (tars) | parquet (img2dataset's) | tsv (caption TAB url) | text
        captions: file, glob pattern or URL, or several of them separated by commas
        caption_column: column (parquet) or key of the JSON member (webdataset) that holds the caption(s)
        block_images: images a worker reads and counts at a time
    """

    kind: Literal["coco", "webdataset", "parquet", "tsv", "text"] = "coco"
    captions: str = ""
    caption_column: str = "caption"
    block_images: int = 1000

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"source.kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.block_images < 1:
            raise ValueError(f"source.block_images must be 1 or more, not {self.block_images}")


@dataclass(frozen=True)
class Unit:
    """A part of the corpus: `start` and `stop` are bytes (text, tsv), row groups (parquet) or images (coco)."""

    url: str
    start: int = 0
    stop: int = -1


def units(settings: CaptionSettings, unit_bytes: int = 4 << 20) -> list[Unit]:
    """The units of the corpus, in a fixed order. FileNotFoundError where a pattern matches nothing."""
    found = []
    for url in _expand(settings.captions):
        if settings.kind == "parquet":
            with fsspec.open(url, "rb") as file:
                groups = pq.ParquetFile(file).num_row_groups
            found += [Unit(url, group, group + 1) for group in range(groups)]
        elif settings.kind == "coco":
            n, step = len(_load_coco(url)), settings.block_images
            found += [Unit(url, start, min(start + step, n)) for start in range(0, n, step)]
        elif settings.kind in ("tsv", "text") and not url.endswith((".gz", ".bz2", ".zst", ".xz")):
            fs, path = fsspec.core.url_to_fs(url)
            size = fs.size(path)
            found += [Unit(url, start, min(start + unit_bytes, size)) for start in range(0, size, unit_bytes)]
        else:
            found.append(Unit(url))
    return found


def blocks(settings: CaptionSettings, unit: Unit) -> Iterator[list[_IMAGE_CAPTIONS]]:
    """The images of a unit in lists of at most `block_images`."""
    block: list[_IMAGE_CAPTIONS] = []
    for image in read_unit(settings, unit):
        block.append(image)
        if len(block) == settings.block_images:
            yield block
            block = []
    if block:
        yield block


def read_unit(settings: CaptionSettings, unit: Unit) -> Iterator[_IMAGE_CAPTIONS]:
    """(image key, its captions) of every image of the unit. ValueError where a file is not of its kind."""
    if settings.kind == "coco":
        yield from _load_coco(unit.url)[unit.start : unit.stop]
    elif settings.kind == "webdataset":
        yield from _read_tar(unit, settings.caption_column)
    elif settings.kind == "parquet":
        yield from _read_parquet(unit, settings.caption_column)
    else:
        for offset, line in _lines(unit):
            caption = line if settings.kind == "text" else _first_field(line)
            if caption.strip():
                yield f"{PurePosixPath(unit.url).name}:{offset}", [caption.strip()]


def _expand(patterns: str) -> list[str]:
    urls = []
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        fs, path = fsspec.core.url_to_fs(pattern)
        matches = sorted(fs.glob(path)) if any(c in path for c in "*?[") else [path] * fs.exists(path)
        if not matches:
            raise FileNotFoundError(f"no captions at {pattern}")
        urls += [fs.unstrip_protocol(match) if "://" in pattern else match for match in matches]
    if not urls:
        raise ValueError("source.captions names no file")
    return urls


@functools.lru_cache(maxsize=1)
def _load_coco(url: str) -> list[_IMAGE_CAPTIONS]:
    """(image id, captions) of a COCO captions file, by image id; remembered, since its units share it."""
    with fsspec.open(url, "rb") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{url} is no JSON file: {error}") from error
    try:
        images: dict[Any, list[str]] = {image["id"]: [] for image in content.get("images", [])}
        for annotation in content["annotations"]:
            images.setdefault(annotation["image_id"], []).append(str(annotation["caption"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{url} is no COCO captions file: {error!r}") from error
    return [(str(image_id), images[image_id]) for image_id in sorted(images, key=lambda i: (str(type(i)), i))]


def _read_parquet(unit: Unit, column: str) -> Iterator[_IMAGE_CAPTIONS]:
    with fsspec.open(unit.url, "rb") as file:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        if column not in names:
            raise ValueError(f"{unit.url} has no column {column!r}; it has {', '.join(names)}")
        key = next((name for name in ("key", "id", "image_id", "url") if name in names), None)
        row = 0
        for batch in parquet.iter_batches(
            4096, row_groups=[unit.start], columns=[column] + [key] * bool(key)
        ):
            captions = batch.column(column).to_pylist()
            keys = batch.column(key).to_pylist() if key else [None] * len(captions)
            for name, caption in zip(keys, captions, strict=True):
                where = f"{PurePosixPath(unit.url).name}:{unit.start}:{row}"
                yield (where if name is None else str(name)), _as_list(caption)
                row += 1


def _read_tar(unit: Unit, column: str) -> Iterator[_IMAGE_CAPTIONS]:
    """Captions of a WebDataset tar: the .json member's, else the lines of the .txt member."""
    key, text, meta = None, None, None
    with fsspec.open(unit.url, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if not member.isfile():
                continue
            stem, _, extension = PurePosixPath(member.name).name.partition(".")
            name = str(PurePosixPath(member.name).parent / stem)
            if name != key:
                if key is not None:
                    yield key, _tar_captions(text, meta, column)
                key, text, meta = name, None, None
            if extension in ("txt", "caption", "json"):
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                text, meta = (text, content) if extension == "json" else (content, meta)
    if key is not None:
        yield key, _tar_captions(text, meta, column)


def _tar_captions(text: bytes | None, meta: bytes | None, column: str) -> list[str]:
    if meta is not None:
        try:
            found = json.loads(meta)
        except ValueError:
            found = None
        if isinstance(found, dict):
            captions = _as_list(found.get("captions")) or _as_list(found.get(column))
            if captions:
                return captions
    return [line.strip() for line in (text or b"").decode("utf-8", "replace").splitlines() if line.strip()]


def _as_list(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item.strip() for item in values if isinstance(item, str) and item.strip()]


def _lines(unit: Unit) -> Iterator[tuple[int, str]]:
    """(byte offset, line) of the lines that start inside the unit; a compressed file is one unit."""
    with fsspec.open(unit.url, "rb", compression="infer") as file:
        offset = unit.start
        if offset:
            file.seek(offset - 1)
            offset += len(file.readline()) - 1
        while unit.stop < 0 or offset < unit.stop:
            line = file.readline()
            if not line:
                return
            yield offset, line.decode("utf-8", "replace").rstrip("\r\n")
            offset += len(line)


def _first_field(line: str) -> str:
    """The caption of a CC3M line. Quotes are part of the text unless they enclose the whole field."""
    field = line.split("\t", 1)[0]
    if len(field) > 1 and field[0] == field[-1] == '"' and len(field) < _CSV_LIMIT:
        return next(csv.reader(io.StringIO(field)), [field])[0]
    return field
