"""Inputs of every awkward sort, made in code, and what a source finds in them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from pipeline import sources
from pipeline.sources import Source, SourceSettings


def add(tar: tarfile.TarFile, name: str, data: bytes, **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w", **options: Any) -> Path:
    """A tar of (name, data)."""
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload]
        for name, data in members:
            add(tar, name, data)
    return path


def pairs(first: int, last: int) -> list[tuple[str, bytes]]:
    """Members of samples `first` to `last` - 1: a .jpg that holds its number, and a .txt."""
    return [
        member
        for i in range(first, last)
        for member in ((f"{i:06d}.jpg", f"jpeg {i}".encode() * 80), (f"{i:06d}.txt", f"a dog {i}".encode()))
    ]


def tars(*urls: Path | str, **settings: Any) -> Source:
    return sources.load(SourceSettings("webdataset", urls=[str(u) for u in urls], **settings))


def tables(*urls: Path | str, **settings: Any) -> Source:
    return sources.load(SourceSettings("parquet", urls=[str(u) for u in urls], **settings))


def coco(root: Path, document: Any = None, n: int = 5, **settings: Any) -> Source:
    """A COCO folder below `root`; `document` in place of the one that lists its images."""
    write_coco(root, n, document)
    return sources.load(SourceSettings("coco", str(root / "images"), str(root / "captions.json"), **settings))


def write_coco(root: Path, n: int = 5, document: Any = None) -> dict[str, Any]:
    (root / "images").mkdir(parents=True, exist_ok=True)
    own: dict[str, Any] = {"images": [], "annotations": []}
    for i in range(n):
        if document is None:
            (root / "images" / f"{i}.jpg").write_bytes(f"jpeg {i}".encode())
        own["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48})
        own["annotations"].append({"id": i, "image_id": i, "caption": f"a dog {i}"})
    (root / "captions.json").write_text(json.dumps(own if document is None else document))
    return own


def rows(source: Source) -> list[dict[str, Any]]:
    """All rows of a source."""
    return [row for unit in source.units() for row in source.index(unit)]


def outcome(source: Source) -> dict[str, tuple[str, list[str]]]:
    """Source key -> (reason of the problem, captions)."""
    return {r["source_key"]: (r["problem"].partition(":")[0], r["captions"]) for r in rows(source)}


def usable(source: Source) -> dict[str, bytes]:
    """Source key -> image bytes of every row without a problem."""
    return {r["source_key"]: source.read(r) for r in rows(source) if not r["problem"]}


def n_lost(source: Source) -> int:
    """How many samples the rows with problems stand for."""
    return sum(r["n_samples"] for r in rows(source) if r["problem"])
