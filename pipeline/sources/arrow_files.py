"""Arrow files of foreign makers, streams (Hugging Face's `save_to_disk`) and files: batches found without reading them.

An Arrow stream has no table of contents. Each message says how long it is, so headers alone tell where batches lie and how
many rows they hold (Arrow's columnar format: encapsulated messages; `Message.fbs`).
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

import storage
from pipeline.sources.parquet_files import Damaged, Groups, WatchedFile, guarded

#: Kinds of messages that are read (`MessageHeader`).
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_MAGIC = b"ARROW1\0\0"
_CONTINUES = 0xFFFFFFFF
#: Bytes of a message's metadata above which it is none.
MAX_METADATA = 64 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """One message: bytes [start, end) of the file, and the rows that a batch holds."""

    kind: int
    start: int
    end: int
    n_rows: int


class ArrowTable(Groups):
    """One Arrow file, open; its record batches are what row groups are to parquet (`parquet_files.Table`).

    cut_short: it ends without an end, so batches are missing. Raises Damaged where not even a schema can be read.
    """

    def __init__(self, url: str):
        self._file = WatchedFile(storage.open_read(url))
        self.cut_short = False
        try:
            messages = list(self._messages())
            if not messages or messages[0].kind != _SCHEMA:
                raise Damaged("it does not begin with an Arrow schema")
            self._before = [m for m in messages if m.kind in (_SCHEMA, _DICTIONARY)]
            self._batches = [m for m in messages if m.kind == _BATCH]
            self.schema: pa.Schema = guarded(self._file, lambda: self._open([messages[0]]).schema)
            self._names: list[str] = guarded(self._file, lambda: self.schema.names)
        except BaseException:
            self._file.close()
            raise
        self.starts = list(itertools.accumulate((m.n_rows for m in self._batches), initial=0))

    def has_values(self, column: str) -> bool:
        """Whether some value of a column (`struct.field`) of the first batch is not null; True where there is no batch."""
        if not self._batches:
            return True
        name, _, field = column.partition(".")
        values = self.read_group(0, [name]).column(0).combine_chunks()
        return bool(
            (values.field(field) if field else values).is_valid().to_numpy(zero_copy_only=False).any()
        )

    def read_group(self, group: int, columns: list[str]) -> pa.Table:
        """Columns of one batch, in that order; of `struct.field` the whole struct. Raises Damaged."""
        batch = self._batches[group]
        before = [m for m in self._before if m.start < batch.start]
        known = self._names
        names = list(dict.fromkeys(c if c in known else c.rpartition(".")[0] for c in columns))
        fields = sorted(known.index(name) for name in names)
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)

        def work() -> pa.RecordBatch:
            read = self._open([*before, batch], options).read_next_batch()
            read.validate(full=True)
            return read

        read = guarded(self._file, work)
        if read.num_rows != batch.n_rows:
            raise Damaged(f"batch {group} holds {read.num_rows} rows, its header says otherwise")
        return pa.Table.from_batches([read]).select(names)

    def _open(self, messages: list[Message], options: Any = None) -> pa.RecordBatchStreamReader:
        """A stream of these messages alone."""
        stream = b"".join(self._bytes(m.start, m.end) for m in messages)
        return pa.ipc.open_stream(pa.BufferReader(stream), options=options)

    def _messages(self) -> Iterator[Message]:
        """The messages of the file, by their headers alone; stops at its end, or where they make no sense any more."""
        at = len(_MAGIC) if self._bytes(0, len(_MAGIC)) == _MAGIC else 0
        size = self._size()
        while True:
            start = at
            head = self._bytes(at, at + 8)
            at += 8
            if len(head) == 8 and struct.unpack("<Ii", head) == (_CONTINUES, 0):
                return
            length = struct.unpack("<Ii", head)[1] if len(head) == 8 else -1
            if len(head) < 8 or head[:4] != b"\xff" * 4 or not 0 < length <= MAX_METADATA:
                self.cut_short = True
                return
            try:
                kind, body, n_rows = _header(self._bytes(at, at + length))
            except (struct.error, IndexError):
                self.cut_short = True
                return
            at += length + body
            if not 0 <= n_rows <= max(body, 0) or body < 0 or at > size:  # captions take a byte a row or more
                self.cut_short = True
                return
            yield Message(kind, start, at, n_rows)

    def _size(self) -> int:
        self._file.seek(0, io.SEEK_END)
        return self._file.tell()

    def _bytes(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)


def _header(metadata: bytes) -> tuple[int, int, int]:
    """(kind, bytes of the body, rows of a batch) of a message's flatbuffer: fields 1, 3 and 2.0 of `Message`.

    Raises struct.error where it is none.
    """
    (message,) = struct.unpack_from("<I", metadata)
    kind = _field(metadata, message, 1, "<B")
    body = _field(metadata, message, 3, "<q")
    n_rows = 0
    if kind == _BATCH:
        header = _place(metadata, message, 2)
        header += cast(int, struct.unpack_from("<I", metadata, header)[0])
        n_rows = _field(metadata, header, 0, "<q")
    return kind, body, n_rows


def _field(buffer: bytes, table: int, number: int, form: str) -> int:
    """A number in a flatbuffer's table; 0 where it is left out, which is its default."""
    place = _place(buffer, table, number)
    return int(struct.unpack_from(form, buffer, place)[0]) if place else 0


def _place(buffer: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table lies; 0 where it is left out."""
    (back,) = struct.unpack_from("<i", buffer, table)
    vtable = table - back
    if vtable < 0 or table < 0:
        raise struct.error("an offset leads out of the message")
    (n_bytes,) = struct.unpack_from("<H", buffer, vtable)
    if 4 + 2 * number >= n_bytes:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, vtable + 4 + 2 * number)
    return table + offset if offset else 0
