"""Parquet files with a key, an image (bytes or path) and captions a row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.images import BadSample
from pipeline.sources import index_row
from pipeline.sources.settings import SourceSettings

CAPTION_COLUMNS = ("captions", "caption", "text")


class ParquetSource:
    """Rows of parquet files, in file and row order.

    Columns: `key` (optional: file name and row otherwise); `image` (bytes, or a struct with `bytes` as Hugging Face
    datasets write it) or `path` (relative to `source.images` where given, else to the file's folder); `captions`
    (strings or lists of strings; `caption` and `text` are read too).
    """

    def __init__(self, settings: SourceSettings):
        self._urls = storage.expand(settings.url_list())
        self._images = storage.absolute(settings.images) if settings.images else None

    def listing(self) -> dict[str, Any]:
        return {
            url.rsplit("/", 1)[-1]: storage.filesystem(url)[0].size(storage.filesystem(url)[1])
            for url in self._urls
        }

    def index(self) -> Iterator[dict[str, Any]]:
        for url in self._urls:
            with storage.open_read(url) as f, pq.ParquetFile(f) as file:
                names = file.schema_arrow.names
                if not any(c in names for c in CAPTION_COLUMNS) or not ({"image", "path"} & set(names)):
                    raise ValueError(
                        f"source.urls: {url} has the columns {', '.join(names)}; needed: image or path, and captions"
                    )
                wanted = [c for c in ("key", "path", *CAPTION_COLUMNS) if c in names]
                row = 0
                for batch in file.iter_batches(columns=wanted):
                    for record in batch.to_pylist():
                        yield self._index_row(record, url, row)
                        row += 1

    def _index_row(self, record: dict[str, Any], url: str, row: int) -> dict[str, Any]:
        captions: list[str] = []
        for column in CAPTION_COLUMNS:
            value = record.get(column)
            captions += [value] if isinstance(value, str) else [v for v in value or [] if isinstance(v, str)]
        key = record.get("key")
        source_key = str(key) if key is not None else f"{url.rsplit('/', 1)[-1]}:{row}"
        if record.get("path"):
            base = self._images or url.rsplit("/", 1)[0]
            path = record["path"] if "://" in record["path"] else storage.join(base, record["path"])
            return index_row(source_key, path, captions)
        return index_row(source_key, url, captions, row=row)

    def read(self, row: dict[str, Any]) -> bytes:
        if row["row"] < 0:
            return storage.read_bytes(row["url"])
        column, first = _image_column(row["url"], _row_group(row["url"], row["row"]))
        value = column[row["row"] - first].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise BadSample("no_image", "the image cell is null")
        return data


@lru_cache(maxsize=64)
def _row_group_starts(url: str) -> tuple[int, ...]:
    with storage.open_read(url) as f, pq.ParquetFile(f) as file:
        starts = [0]
        for i in range(file.num_row_groups):
            starts.append(starts[-1] + file.metadata.row_group(i).num_rows)
        return tuple(starts)


def _row_group(url: str, row: int) -> int:
    starts = _row_group_starts(url)
    return next(i for i in range(len(starts) - 1) if starts[i] <= row < starts[i + 1])


@lru_cache(maxsize=2)
def _image_column(url: str, row_group: int) -> tuple[pa.ChunkedArray, int]:
    """The images of one row group and the number of its first row. Rows are read in order, so two groups are enough."""
    with storage.open_read(url) as f, pq.ParquetFile(f) as file:
        return file.read_row_group(row_group, columns=["image"]).column("image"), _row_group_starts(url)[
            row_group
        ]
