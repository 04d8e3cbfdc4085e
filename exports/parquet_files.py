"""Rows of one schema in numbered parquet files of bounded size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage


@contextlib.contextmanager
def parquet_files(
    name: Callable[[int], str], schema: pa.Schema, group_rows: int, file_bytes: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives the function that adds a row. name: the URL of the file of a number, from 0; there is at least one file.

    A file has row groups of `group_rows`, and is closed by the group with which its rows come to `file_bytes` in memory.
    """
    files = _Files(name, schema, group_rows, file_bytes)
    with files.stack:
        yield files.add
        files.finish()


class _Files:
    def __init__(self, name: Callable[[int], str], schema: pa.Schema, group_rows: int, file_bytes: int):
        self.stack = contextlib.ExitStack()
        self._name, self._schema, self._group, self._limit = name, schema, group_rows, file_bytes
        self._number = self._bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._group:
            self._flush()

    def finish(self) -> None:
        if self._rows or not self._number:
            self._flush()
        self.stack.close()

    def _flush(self) -> None:
        if self._writer is None:
            file = self.stack.enter_context(storage.atomic_write(self._name(self._number)))
            self._writer = self.stack.enter_context(pq.ParquetWriter(file, self._schema, compression="zstd"))
            self._number += 1
        table = pa.Table.from_pylist(self._rows, self._schema)
        self._writer.write_table(table)
        self._bytes += table.nbytes
        self._rows = []
        if self._bytes >= self._limit:
            self.stack.close()
            self._writer, self._bytes = None, 0
