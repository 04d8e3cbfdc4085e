"""Parquet files of foreign makers: what can be read of them, and whose fault it is where nothing can."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

import storage

T = TypeVar("T")


class Damaged(Exception):
    """A parquet file whose bytes are wrong. Nothing that failed while they were read, which stays an OSError."""


class WatchedFile:
    """A file that remembers whether reading it failed: Arrow reports damaged contents by OSError too."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.failure: BaseException | None = None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def _watched(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return work(*arguments)
        except BaseException as e:
            self.failure = e
            raise

    def read(self, n: int = -1) -> bytes:
        return self._watched(self._file.read, n)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._watched(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


def guarded(file: WatchedFile, work: Callable[[], T]) -> T:
    """Runs a call into Arrow; what it raises is Damaged unless the file could not be read."""
    try:
        return work()
    except (MemoryError, Damaged):
        raise
    except Exception as e:
        if file.failure is not None:
            raise file.failure from e
        text = " ".join(str(e).split())[:200]
        raise Damaged(f"{type(e).__name__}: {text}") from None


G = TypeVar("G", bound="Groups")


class Groups:
    """An open file of rows in groups. starts: the first row of each group, and the number of all rows."""

    _file: WatchedFile
    starts: list[int]

    @property
    def n_rows(self) -> int:
        return self.starts[-1]

    def group_of(self, row: int) -> int:
        """The group that holds a row."""
        return bisect.bisect_right(self.starts, row) - 1

    def groups(self) -> range:
        return range(len(self.starts) - 1)

    def close(self) -> None:
        self._file.close()

    def __enter__(self: G) -> G:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Table(Groups):
    """One parquet file, open. Its footer is parsed once, however many row groups it has."""

    #: The footer is at the end: a file that lacks any of it cannot be opened.
    cut_short = False

    def __init__(self, url: str):
        self._url = url
        self._file = WatchedFile(storage.open_read(url))
        try:
            self._parquet: pq.ParquetFile = self.guarded(lambda: pq.ParquetFile(self._file, pre_buffer=False))
            self.schema: pa.Schema = self.guarded(lambda: self._parquet.schema_arrow)
        except BaseException:
            self._file.close()
            raise
        counts = [self._parquet.metadata.row_group(i).num_rows for i in range(self._parquet.num_row_groups)]
        self.starts = list(itertools.accumulate((max(0, n) for n in counts), initial=0))

    def has_values(self, column: str) -> bool:
        """Whether some value of a column (`struct.field`) is not null, as far as the footer tells."""
        metadata = self._parquet.metadata
        for group in self.groups():
            row_group = metadata.row_group(group)
            for i in range(row_group.num_columns):
                chunk = row_group.column(i)
                if chunk.path_in_schema == column:
                    known = chunk.is_stats_set and chunk.statistics.has_null_count
                    if not known or chunk.statistics.null_count < chunk.num_values:
                        return True
        return False

    def read_group(self, group: int, columns: list[str]) -> pa.Table:
        """Columns of one row group. Raises Damaged."""
        table = self.guarded(lambda: self._parquet.read_row_group(group, columns=columns, use_threads=False))
        if table.num_rows != self.starts[group + 1] - self.starts[group]:
            raise Damaged(f"row group {group} holds {table.num_rows} rows, its footer says otherwise")
        return table

    def guarded(self, work: Callable[[], T]) -> T:
        """`guarded` for this file."""
        return guarded(self._file, work)


def cells(column: pa.ChunkedArray) -> Iterator[Any]:
    """The values of a column as Python has them; text that is no UTF-8 as bytes, other values that fail as None."""
    try:
        yield from column.to_pylist(maps_as_pydicts="lossy")
        return
    except (ValueError, TypeError, OverflowError, KeyError, NotImplementedError, pa.ArrowException):
        pass
    for scalar in itertools.chain.from_iterable(column.chunks):
        yield cell(scalar)


def cell(scalar: pa.Scalar) -> Any:
    """The value of one cell, as `cells` gives it."""
    try:
        return scalar.as_py(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        return _bytes_of(scalar)
    except (ValueError, TypeError, OverflowError, KeyError, NotImplementedError, pa.ArrowException):
        return None


def _bytes_of(scalar: pa.Scalar) -> Any:
    kind = scalar.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return scalar.as_buffer().to_pybytes()
    if isinstance(scalar, pa.ListScalar):
        return [cell(item) for item in scalar.values or []]
    if isinstance(scalar, pa.StructScalar):
        return {name: cell(scalar[name]) for name in scalar}
    if isinstance(scalar, pa.DictionaryScalar):
        return cell(scalar.value)
    return None


def read_twice(table: Table, group: int, columns: list[str]) -> pa.Table:
    """A row group, read again before it is called damaged."""
    try:
        return table.read_group(group, columns)
    except Damaged:
        return table.read_group(group, columns)
