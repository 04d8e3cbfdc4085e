"""Shards as random access: an index that lies beside each shard, then one byte range a sample.

A sample's members lie side by side in its tar, so a sample is one read. Local shards are read where they are. Shards of
an object store are fetched whole, checked against the manifest's sha256, into a bounded folder (`buffer.py`).

What cannot be read now raises; `BadSample` says that the bytes themselves are not what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset.buffer import Buffer
from pipeline.dataset.manifest import ShardRow
from pipeline.images import BadSample

#: Indices that are asked for at once.
THREADS = 16
_MEMBERS = ("image", "json", "npz")
#: How the header of a sample's member begins.
_MEMBER = re.compile(rb"([0-9a-f]{24})\.\w+\0")


@dataclass(frozen=True)
class ShardIndex:
    """Where the samples of a shard lie, in tar order.

    keys: bytes [n], ASCII; offsets: int64 [n, 6], start and end of the image, .json and .npz member in the file.
    """

    keys: np.ndarray
    offsets: np.ndarray


class Shards:
    """Reads samples by (shard, ordinal). Safe to copy into loader processes: files are opened where they are used.

    Of a label-only dataset the image comes from the shard that has it, found by key in that one's index.

    folder: for fetched shards and indices of a remote dataset. max_open: files that are open at once, twice as many where
    images lie in shards of their own.
    """

    def __init__(self, rows: tuple[ShardRow, ...], folder: str, buffer_bytes: int, max_open: int):
        self.rows = rows
        self._images: Shards | None = None
        if any(row.images for row in rows):
            self._images = Shards(tuple(row.images or row for row in rows), folder, buffer_bytes, max_open)
        self.remote: bool = any(map(_is_remote, rows)) or (self._images is not None and self._images.remote)
        self._folder = folder
        self._buffer = Buffer(folder, buffer_bytes)
        self._max_open = max_open
        self._open: OrderedDict[int, tuple[int, ShardIndex]] = OrderedDict()
        self._renewed: set[int] = set()
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}

    def indices(self) -> Iterator[ShardIndex]:
        """The index of every shard, in order, some fetched at once; no shard is opened."""
        return storage.map_threads(self._load_index, self.rows, THREADS)

    def index(self, shard: int) -> ShardIndex:
        """The index of a shard, which is not opened for it."""
        return self._open[shard][1] if shard in self._open else self._load_index(self.rows[shard])

    def read(self, shard: int, ordinal: int) -> tuple[str, memoryview, memoryview, memoryview]:
        """Key, image, .json and .npz of a sample: views of one buffer.

        Raises BadSample `damaged_shard` if the shard ends before the sample does, ValueError where another shard should
        have the image and does not.
        """
        key, image, meta, arrays = self._read(shard, ordinal)
        if self._images is not None and self.rows[shard].images is not None:
            ordinal = ordinal_of(self._images._opened(shard)[1], key, self._images.rows[shard])
            image = self._images._read(shard, ordinal, image_only=True)[1]
        return key, image, meta, arrays

    def _read(
        self, shard: int, ordinal: int, image_only: bool = False
    ) -> tuple[str, memoryview, memoryview, memoryview]:
        _, index = self._opened(shard)
        key = index.keys[ordinal].decode("ascii")
        offsets = index.offsets[ordinal].tolist()
        if image_only:
            offsets = offsets[:2] + offsets[:1] * 4
        first = min(offsets)
        # Not bytes: decoders want to be able to write.
        data = np.empty(max(offsets) - first, np.uint8).data
        if not self._fill(data, shard, first):
            self._close(shard)  # it may have been replaced by a whole one meanwhile
            if not self._fill(data, shard, first):
                raise BadSample("damaged_shard", f"{self.rows[shard].name} ends inside sample {key}")
        image, meta, arrays = (
            data[a - first : b - first] for a, b in zip(offsets[::2], offsets[1::2], strict=True)
        )
        return key, image, meta, arrays

    def _fill(self, data: memoryview, shard: int, start: int) -> bool:
        """Reads a range of a shard, again where its disk fails. Whether the shard is long enough."""

        def read() -> int:
            try:
                return os.preadv(self._opened(shard)[0], [data], start)
            except OSError:
                self._close(shard)
                raise

        return storage.retried(read, self.rows[shard].url) == len(data)

    def fetch(self, shard: int) -> None:
        """Makes sure that a remote shard lies in the buffer."""
        if _is_remote(self.rows[shard]):
            os.close(self._descriptor(self.rows[shard]))
        if self._images is not None and self.rows[shard].images is not None:
            self._images.fetch(shard)

    def renew(self, shard: int) -> bool:
        """Opens a shard anew, once a process, because a sample of it looks damaged; of a remote one a copy that went bad
        is fetched again. Whether it did."""
        if self._images is not None and self.rows[shard].images is not None:
            self._images.renew(shard)
        if shard in self._renewed:
            return False
        self._renewed.add(shard)
        self._close(shard)
        if _is_remote(self.rows[shard]):
            self._buffer.heal(self.rows[shard].sha256)
        return True

    def close(self) -> None:
        """Closes the open files."""
        for shard in list(self._open):
            self._close(shard)
        if self._images is not None:
            self._images.close()

    def _close(self, shard: int) -> None:
        descriptor, _ = self._open.pop(shard, (None, None))
        if descriptor is not None and os.getpid() == self._owner:
            os.close(descriptor)

    def _opened(self, shard: int) -> tuple[int, ShardIndex]:
        if os.getpid() != self._owner:  # after a fork: the parent's descriptors stay the parent's
            self._open, self._owner = OrderedDict(), os.getpid()
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        row = self.rows[shard]
        index = self._load_index(row)
        descriptor = self._descriptor(row)
        try:
            if not _is_remote(row):  # a copy in the buffer has the manifest's sha256
                _check_first(descriptor, index, row)
        except BaseException:
            os.close(descriptor)
            raise
        self._open[shard] = (descriptor, index)
        while len(self._open) > self._max_open:
            self._close(next(iter(self._open)))
        return self._open[shard]

    def _descriptor(self, row: ShardRow) -> int:
        if _is_remote(row):
            return self._buffer.open(row.url, row.sha256, row.n_bytes)
        try:
            return storage.retried(lambda: os.open(storage.absolute(row.url), os.O_RDONLY), row.url)
        except FileNotFoundError as e:
            raise row.damaged(f"{row.url} is gone") from e

    def _load_index(self, row: ShardRow) -> ShardIndex:
        """Reads a shard's index, of a remote dataset by way of a copy.

        Raises DamagedDataset if it is gone or its bytes have changed.
        """
        copy = os.path.join(self._folder, "indices", f"{row.index_sha256}.parquet") if _is_remote(row) else ""
        if copy and (data := _local_bytes(copy)) is not None and _sha256(data) == row.index_sha256:
            return parse_index(data, row)
        data = row.read(row.index_url)
        if _sha256(data) != row.index_sha256:
            raise row.damaged(f"{row.index_url} is damaged: its sha256 is not the manifest's")
        if copy:
            storage.write_bytes(copy, data)
        return parse_index(data, row)


def _is_remote(row: ShardRow) -> bool:
    return not storage.is_local(row.url)


def _check_first(descriptor: int, index: ShardIndex, row: ShardRow) -> None:
    """Raises DamagedDataset where a file is another shard than its row says, by its first sample, or by what lies behind
    the last one: its samples are no damaged ones, of which some may be replaced. Two small reads, not the whole file."""

    def read(start: int, end: int) -> bytes:
        return storage.retried(lambda: os.pread(descriptor, end - start, start), row.url)

    if os.fstat(descriptor).st_size > row.n_bytes:
        raise row.damaged(
            f"{row.name} is another shard, or a longer one: the manifest says {row.n_bytes} bytes"
        )
    if not len(index.keys):
        return
    first = index.offsets[0]
    start = int(first.min())
    member = _MEMBER.match(read(start - tarfile.BLOCKSIZE, start)) if start >= tarfile.BLOCKSIZE else None
    if member is None:
        return  # damage: whoever reads the sample meets it
    if member[1] != index.keys[0]:
        raise row.damaged(f"{row.name} is another shard: its first sample is {member[1].decode()}")
    said, start = row.made_with, int(first[2])
    with contextlib.suppress(tarfile.TarError, ValueError, AttributeError, RecursionError):
        size = tarfile.TarInfo.frombuf(read(start - tarfile.BLOCKSIZE, start), "ascii", "strict").size
        said = json.loads(read(start, start + min(size, row.n_bytes))).get("fingerprint", said)
    if row.made_with and said != row.made_with:
        raise row.damaged(f"{row.name} is another dataset's: its samples were made with {str(said)[:64]}")


def ordinal_of(index: ShardIndex, key: str, row: ShardRow) -> int:
    """Where in a shard the sample with this key lies. Raises ValueError where it does not."""
    name = key.encode("ascii")
    ordinal = int(np.searchsorted(index.keys, name))
    if ordinal == len(index.keys) or index.keys[ordinal] != name:
        raise ValueError(f"{row.url} lacks the image of sample {key}")
    return ordinal


def parse_index(data: bytes, row: ShardRow) -> ShardIndex:
    """The bytes of an index file -> the index. Raises DamagedDataset if it is not one of this shard."""
    try:
        table = pq.ParquetFile(storage.arrow_file(data)).read()
        columns = [table.column(f"{m}_{c}").to_numpy() for m in _MEMBERS for c in ("offset", "bytes")]
        keys = np.array([key.encode("ascii") for key in table.column("key").to_pylist()], np.bytes_)
    except (pa.ArrowException, KeyError, OSError, UnicodeEncodeError) as e:
        raise row.damaged(f"{row.index_url} is no shard index: {str(e)[:200]}") from e
    offsets = np.stack(columns, axis=1).astype(np.int64).reshape(-1, 6)
    offsets[:, 1::2] += offsets[:, ::2]
    inside = bool(((offsets >= 0) & (offsets <= row.n_bytes)).all())
    if len(keys) != row.n_samples or not inside or (offsets[:, 1::2] < offsets[:, ::2]).any():
        raise row.damaged(f"{row.index_url} is not the index of {row.name}")
    return ShardIndex(keys, offsets)


def _local_bytes(path: str) -> bytes | None:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
