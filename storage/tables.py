"""Parquet files, read through one function.

Arrow's dataset scanner (behind `pq.read_table`) may drop its last reference to a Python file in a thread of its own
while the interpreter shuts down, which aborts the process. `ParquetFile` does not, but its threads may hold Python's
bytes a moment longer than the read takes, with the same end; so bytes go into memory of Arrow's own (`arrow_file`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from storage.files import read_bytes
from storage.location import redacted
from storage.reading import open_read

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def arrow_file(data: bytes) -> pa.BufferReader:
    """A copy of `data` as a file for Arrow, of which no thread of Arrow's holds anything of Python's."""
    import pyarrow as pa

    buffer = pa.allocate_buffer(len(data))
    with pa.FixedSizeBufferWriter(buffer) as writer:
        writer.write(data)
    return pa.BufferReader(buffer)


def read_table(url: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A parquet file whole (or some of its columns), read in one request. ValueError, naming the file, if it is none."""
    import pyarrow.parquet as pq

    data = read_bytes(url)
    with _naming(url):
        file = pq.ParquetFile(arrow_file(data))
        return file.read(columns=None if columns is None else list(columns))


@contextlib.contextmanager
def open_parquet(url: str) -> Iterator[pq.ParquetFile]:
    """A large parquet file, to be read by row groups or batches. Arrow's errors become a ValueError that names it."""
    import pyarrow.parquet as pq

    with open_read(url) as stream, _naming(url):
        yield pq.ParquetFile(stream)


@contextlib.contextmanager
def _naming(url: str) -> Iterator[None]:
    """Arrow's complaints about the content as one short line with the file's name."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, pa.ArrowCapacityError) as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(f"{redacted(url)}: not a parquet file that can be read: {line}") from error
    except OSError as error:
        # a damaged page is an OSError without a number in Arrow
        if type(error) is OSError and error.errno is None:
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{redacted(url)}: not a parquet file that can be read: {line}") from error
        raise
