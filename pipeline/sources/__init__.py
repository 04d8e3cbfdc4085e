"""Sources: where images and captions come from.

A source says what there is (`index`, without opening an image where the format allows it) and reads samples by their
index rows (`read`), in any order and from any machine. `load(settings)` builds one by `settings.kind`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pipeline.sources.settings import SourceSettings


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

        return ShapesSource(settings)
    if settings.kind == "coco":
        from pipeline.sources.coco import CocoSource

        return CocoSource(settings)
    if settings.kind == "webdataset":
        from pipeline.sources.webdataset import WebDatasetSource

        return WebDatasetSource(settings)
    if settings.kind == "parquet":
        from pipeline.sources.parquet import ParquetSource

        return ParquetSource(settings)
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
