"""Sources: where images and captions come from.

A source says what there is (`index`, without opening an image where the format allows it) and reads samples by their
index rows (`read`), in any order and from any machine. `load(settings)` builds one by `settings.kind`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.sources.settings import SourceSettings


@dataclass(frozen=True)
class Unit:
    """A part of the input that one worker indexes by itself."""

    location: str
    n_bytes: int = -1
    version: str = ""
    start: int = 0
    stop: int = -1


class _Whole:
    """A source as one unit."""

    unique_keys = True
    root = ""

    def __init__(self, source: Any):
        self._source = source

    def units(self) -> list[Unit]:
        return [Unit("")]

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        for row in self._source.index():
            row["location"] = row.pop("url")
            yield {**row, "n_samples": 1}

    def read(self, row: dict[str, Any]) -> bytes:
        return self._source.read({**row, "url": row["location"]})

    def check(self) -> None: ...

    def identity(self) -> dict[str, Any]:
        return self._source.listing()


class Source(Protocol):
    def listing(self) -> dict[str, Any]:
        """What tells this input from another without reading it whole: names, sizes, hashes. JSON values."""
        ...

    def index(self) -> Iterator[dict[str, Any]]:
        """Every sample in a fixed order, as rows of `records.INDEX`. A sample known to be unusable says so in `problem`."""
        ...

    def read(self, row: dict[str, Any]) -> bytes:
        """The original image bytes of an index row. Raises BadSample or OSError for this sample alone."""
        ...


def load(settings: SourceSettings) -> Source:
    """The source that `settings.kind` names. Raises ValueError for an unknown kind."""
    if settings.kind == "shapes":
        from pipeline.sources.shapes import ShapesSource

        return _Whole(ShapesSource(settings))
    if settings.kind == "coco":
        from pipeline.sources.coco import CocoSource

        return _Whole(CocoSource(settings))
    if settings.kind == "webdataset":
        from pipeline.sources.webdataset import WebDatasetSource

        return _Whole(WebDatasetSource(settings))
    if settings.kind == "parquet":
        from pipeline.sources.parquet import ParquetSource

        return _Whole(ParquetSource(settings))
    raise ValueError(f"source.kind: '{settings.kind}' is not known")


def index_row(
    source_key: str,
    url: str,
    captions: list[str],
    *,
    offset: int = -1,
    n_bytes: int = -1,
    row: int = -1,
    problem: str = "",
) -> dict[str, Any]:
    """A row of `records.INDEX`. Blank captions are dropped; a sample without any is a problem of its own."""
    kept = [c.strip() for c in captions if c and c.strip()]
    if not problem and not kept:
        problem = "empty_caption" if captions else "no_caption"
    return {
        "source_key": source_key,
        "url": url,
        "offset": offset,
        "n_bytes": n_bytes,
        "row": row,
        "captions": kept,
        "problem": problem,
    }
