"""WebDataset tars as img2dataset writes them: an image, a `.txt` and/or a `.json` caption a sample."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import IO, Any

import storage
from pipeline.sources import index_row
from pipeline.sources.settings import SourceSettings

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
CAPTION_FIELDS = ("captions", "caption", "text")


class WebDatasetSource:
    """Samples of local or remote tars, in the order of the tars and of their members.

    The index pass reads tar headers and captions and remembers where each image lies, so `read` is one range request.
    A tar that ends early gives one row with the problem `damaged_tar` besides the samples before the damage.
    """

    def __init__(self, settings: SourceSettings):
        self._urls = storage.expand(settings.url_list())

    def listing(self) -> dict[str, Any]:
        return {
            url.rsplit("/", 1)[-1]: storage.filesystem(url)[0].size(storage.filesystem(url)[1])
            for url in self._urls
        }

    def index(self) -> Iterator[dict[str, Any]]:
        for url in self._urls:
            with storage.open_read(url) as f:
                yield from _index_tar(f, url)

    def read(self, row: dict[str, Any]) -> bytes:
        return storage.read_bytes(row["url"], row["offset"], row["offset"] + row["n_bytes"])


def _index_tar(f: IO[bytes], url: str) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    damage = ""
    end = 0
    try:
        with tarfile.open(fileobj=f, mode="r:") as tar:
            for member in tar:
                end = member.offset_data + (member.size + 511) // 512 * 512
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem  # unique in this tar; tars may number alike
                if sample and (sample["key"] != key or extension.lower() in sample["extensions"]):
                    yield _row(sample, url)
                    sample = {}
                sample = sample or {"key": key, "extensions": set()}
                _add_member(sample, extension.lower(), member, tar)
    except (tarfile.TarError, EOFError, OSError) as e:
        damage = f"damaged_tar: {e}"
    if sample and not damage:
        yield _row(sample, url)
    # A tar that was cut between two members parses without an error; only its missing end block tells.
    if not damage:
        f.seek(end)
        if len(f.read(512)) < 512:
            damage = "damaged_tar: no end-of-archive block"
    if damage:
        yield index_row(url.rsplit("/", 1)[-1], url, [], problem=damage)


def _add_member(
    sample: dict[str, Any], extension: str, member: tarfile.TarInfo, tar: tarfile.TarFile
) -> None:
    sample["extensions"].add(extension)
    if extension in IMAGE_EXTENSIONS:
        sample.setdefault("image", (member.offset_data, member.size))
        return
    if extension not in ("txt", "json"):
        return
    content = tar.extractfile(member)
    data = content.read() if content else b""
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    text = data.decode("utf-8", errors="replace")
    if extension == "txt":
        sample["txt"] = text
        return
    try:
        sample["json"] = json.loads(text)
    except json.JSONDecodeError:
        sample["bad_json"] = True


def _row(sample: dict[str, Any], url: str) -> dict[str, Any]:
    captions = [sample["txt"]] if "txt" in sample else []
    document = sample.get("json")
    meta = document if isinstance(document, dict) else {}
    for name in CAPTION_FIELDS:
        value = meta.get(name)
        captions += [value] if isinstance(value, str) else [v for v in value or [] if isinstance(v, str)]
    problem = "" if "image" in sample else "no_image"
    if not captions and sample.get("bad_json"):
        problem = problem or "bad_json"
    offset, n_bytes = sample.get("image", (-1, -1))
    unique = list(dict.fromkeys(c.strip() for c in captions))
    source_key = f"{url.rsplit('/', 1)[-1]}/{sample['key']}"
    return index_row(source_key, url, unique, offset=offset, n_bytes=n_bytes, problem=problem)
