"""Whole copies of remote files in a bounded folder that all processes of a machine share.

A copy is known by the sha256 of its bytes, written under a temporary name and renamed once it has that sha256. The least
recently opened ones go when the folder is full; who has one open keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator

import storage
from pipeline.images import BadSample

_CHUNK = 16 << 20


class Buffer:
    """folder: made where it is needed. n_bytes: disk that copies may take."""

    def __init__(self, folder: str, n_bytes: int):
        self._folder, self._n_bytes = folder, n_bytes
        self._damaged: dict[str, str] = {}

    def open(self, url: str, sha256: str, n_bytes: int) -> int:
        """A descriptor of the copy of a file, fetched if it is not there or not whole.

        Raises BadSample `damaged_shard` if the file itself has another sha256, twice. A file that cannot be read now, or
        is not there, raises what the storage layer raises.
        """
        if sha256 in self._damaged:
            raise BadSample("damaged_shard", self._damaged[sha256])
        os.makedirs(self._folder, exist_ok=True)
        path = self._path(sha256)
        with locked(path + ".lock"):
            descriptor = _open_whole(path, n_bytes)
            if descriptor is None:
                self._make_room(n_bytes)
                descriptor = self._download(url, sha256, n_bytes, path)
            os.utime(descriptor)
        return descriptor

    def heal(self, sha256: str) -> None:
        """Removes a copy whose bytes have changed on this machine's disk; the next `open` fetches it anew."""
        path = self._path(sha256)
        with locked(path + ".lock"), contextlib.suppress(FileNotFoundError):
            if storage.sha256(path) != sha256:
                os.unlink(path)

    def _path(self, sha256: str) -> str:
        return os.path.join(self._folder, f"{sha256}.tar")

    def _download(self, url: str, sha256: str, n_bytes: int, path: str) -> int:
        """Fetches a file, twice if its bytes are wrong: damage on the way is not damage of the file."""
        seen = []
        for _ in range(2):
            temporary = f"{path}.{uuid.uuid4().hex}"
            try:
                with open(temporary, "wb") as target:
                    seen.append(_copy(url, n_bytes, target))
                if seen[-1] == sha256:
                    descriptor = os.open(
                        temporary, os.O_RDONLY
                    )  # before others see it: they may remove it at once
                    os.replace(temporary, path)
                    return descriptor
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        if seen[0] != seen[1]:
            raise OSError(f"{url}: two downloads differ, and neither has the sha256 of its manifest row")
        self._damaged[sha256] = f"{url}: sha256 differs from its manifest row"
        raise BadSample("damaged_shard", self._damaged[sha256])

    def _make_room(self, n_bytes: int) -> None:
        """Removes the least recently opened copies. An open file outlives its name, so readers are not disturbed."""
        with locked(os.path.join(self._folder, "room.lock")):
            copies = []
            for entry in os.scandir(self._folder):
                if entry.name.endswith(".tar"):
                    with contextlib.suppress(FileNotFoundError):
                        copies.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
            total = sum(size for _, size, _ in copies) + n_bytes
            for _, size, path in sorted(copies):
                if total <= self._n_bytes:
                    break
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size


def _copy(url: str, n_bytes: int, target) -> str:
    """Writes the first n_bytes of a file to `target`; returns their sha256. Each range is retried by the storage layer."""
    digest = hashlib.sha256()
    for start in range(0, n_bytes, _CHUNK):
        chunk = storage.read_bytes(url, start, min(start + _CHUNK, n_bytes))
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _open_whole(path: str, n_bytes: int) -> int | None:
    """A descriptor of a file, or None if it is not there or has another size."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if os.fstat(descriptor).st_size == n_bytes:
        return descriptor
    os.close(descriptor)
    os.unlink(path)
    return None


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Holds the lock file `path` among all processes and threads of a machine.

    A process forked meanwhile has a copy of the descriptor, and closing ours would leave the lock held: it is unlocked
    in so many words.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
