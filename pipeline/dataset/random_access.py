"""Shards as random access: one header walk a shard, then one byte range a sample.

A sample's members lie side by side in its tar, so a sample is one read. Local shards are read where they are.
Shards of an object store are fetched whole (one sequential GET each, checked against the manifest's sha256)
into a bounded folder that all processes of a machine share, and the least recently opened are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tarfile
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from fsspec.implementations.local import LocalFileSystem

import storage
from pipeline.dataset.manifest import ShardRow
from pipeline.images import BadSample


@dataclass(frozen=True)
class ShardIndex:
    """Where the samples of a shard lie, in tar order.

    keys: bytes [n], ASCII; offsets: int64 [n, 6], start and end of the image, .json and .npz member in the
    file.
    """

    keys: np.ndarray
    offsets: np.ndarray


class Shards:
    """Reads samples by (shard, ordinal). Safe to copy into loader processes: files are opened where they are used."""

    def __init__(self, rows: tuple[ShardRow, ...], folder: str, buffer_bytes: int, max_open: int):
        self.rows = rows
        self._folder = folder
        self._buffer_bytes = buffer_bytes
        self._max_open = max_open
        self._open: OrderedDict[int, tuple[int, ShardIndex]] = OrderedDict()
        self._owner = os.getpid()
        self.remote = bool(rows) and not isinstance(storage.filesystem(rows[0].url)[0], LocalFileSystem)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}

    def index(self, shard: int) -> ShardIndex:
        """The index of a shard. Raises BadSample `damaged_shard` if it is cut, gone, or not what the manifest says."""
        return self._opened(shard)[1]

    def read(self, shard: int, ordinal: int) -> tuple[str, memoryview, memoryview, memoryview]:
        """Key, image, .json and .npz of a sample: views of one buffer. Raises BadSample for a damaged shard or a short
        read."""
        descriptor, index = self._opened(shard)
        key = index.keys[ordinal].decode("ascii")
        offsets = index.offsets[ordinal].tolist()
        first = min(offsets)
        data = np.empty(max(offsets) - first, np.uint8).data  # not bytes: decoders want to be able to write
        if os.preadv(descriptor, [data], first) < len(data):
            raise BadSample("damaged_shard", f"{self.rows[shard].name} ends inside sample {key}")
        image, meta, arrays = (
            data[a - first : b - first] for a, b in zip(offsets[::2], offsets[1::2], strict=True)
        )
        return key, image, meta, arrays

    def fetch(self, shard: int) -> str:
        """The path of a local copy of the shard: the shard itself, or its buffered copy, fetched if need be."""
        row = self.rows[shard]
        fs, path = storage.filesystem(row.url)
        if isinstance(fs, LocalFileSystem):
            return path
        copy = os.path.join(self._folder, f"{row.sha256}.tar")
        os.makedirs(self._folder, exist_ok=True)
        with _locked(copy + ".lock"):
            if not os.path.exists(copy):
                self._make_room(row.n_bytes)
                _download(fs, path, row, copy)
            os.utime(copy)
        return copy

    def close(self) -> None:
        """Closes the open files."""
        for descriptor, _ in self._open.values():
            if os.getpid() == self._owner:
                os.close(descriptor)
        self._open.clear()

    def _opened(self, shard: int) -> tuple[int, ShardIndex]:
        if os.getpid() != self._owner:  # after a fork: the parent's descriptors stay the parent's
            self._open, self._owner = OrderedDict(), os.getpid()
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        row = self.rows[shard]
        try:
            descriptor = os.open(self.fetch(shard), os.O_RDONLY)
        except OSError as e:
            raise BadSample("damaged_shard", f"{row.name}: {e}") from e
        try:
            index = self._load_index(row, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._open[shard] = (descriptor, index)
        while len(self._open) > self._max_open:
            os.close(self._open.popitem(last=False)[1][0])
        return self._open[shard]

    def _load_index(self, row: ShardRow, descriptor: int) -> ShardIndex:
        n_bytes = os.fstat(descriptor).st_size
        if n_bytes != row.n_bytes:
            raise BadSample(
                "damaged_shard", f"{row.name} has {n_bytes} bytes, its manifest row says {row.n_bytes}"
            )
        saved = os.path.join(self._folder, "indices", f"{row.sha256}.npz")
        if os.path.exists(saved):
            with np.load(saved, allow_pickle=False) as arrays:
                return ShardIndex(arrays["keys"], arrays["offsets"])
        with os.fdopen(os.dup(descriptor), "rb") as f:
            index = index_tar(f, row)
        with storage.atomic_write(saved) as out:
            np.savez(out, keys=index.keys, offsets=index.offsets)
        return index

    def _make_room(self, n_bytes: int) -> None:
        """Removes the least recently opened copies. An open file outlives its name, so readers are not disturbed."""
        with _locked(os.path.join(self._folder, "room.lock")):
            copies = []
            for entry in os.scandir(self._folder):
                if entry.name.endswith(".tar"):
                    with contextlib.suppress(FileNotFoundError):
                        copies.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
            total = sum(size for _, size, _ in copies) + n_bytes
            for _, size, path in sorted(copies):
                if total <= self._buffer_bytes:
                    break
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size


def index_tar(f, row: ShardRow) -> ShardIndex:
    """Walks the headers of a shard once. Raises BadSample if members are missing or their number is not n_samples."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(fileobj=f, mode="r:") as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                kind = extension if extension in ("json", "npz") else "image"
                samples.setdefault(key, {})[kind] = (member.offset_data, member.offset_data + member.size)
    except (tarfile.TarError, EOFError, OSError) as e:
        raise BadSample("damaged_shard", f"{row.name}: {e}") from e
    if len(samples) != row.n_samples:
        raise BadSample(
            "damaged_shard", f"{row.name} has {len(samples)} samples, its row says {row.n_samples}"
        )
    for key, members in samples.items():
        if set(members) != {"image", "json", "npz"}:
            raise BadSample("damaged_shard", f"{row.name}: sample {key} lacks a member")
    offsets = [[*m["image"], *m["json"], *m["npz"]] for m in samples.values()]
    return ShardIndex(
        np.array([k.encode("ascii") for k in samples]), np.array(offsets, np.int64).reshape(-1, 6)
    )


def _download(fs, path: str, row: ShardRow, copy: str) -> None:
    temporary = f"{copy}.{uuid.uuid4().hex}"
    digest = hashlib.sha256()
    try:
        with (
            fs.open(path, "rb", cache_type="readahead", block_size=8 << 20) as source,
            open(temporary, "wb") as target,
        ):
            while chunk := source.read(8 << 20):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != row.sha256:
            raise BadSample("damaged_shard", f"{row.name}: sha256 differs from its manifest row")
        os.replace(temporary, copy)
    except FileNotFoundError as e:
        raise BadSample("damaged_shard", f"{row.name} is gone") from e
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    with open(path, "wb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield
