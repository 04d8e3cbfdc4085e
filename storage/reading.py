"""A file as a stream that survives failed reads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from typing import IO, Any, cast

from fsspec.implementations.memory import MemoryFile

from storage.location import absolute, filesystem, is_local, redacted
from storage.retries import Pause, retried
from storage.verdicts import Changed


def open_read(url: str) -> IO[bytes]:
    """A file open for reading. A read that fails for the infrastructure's reasons opens the file again and goes on
    where it was; `Changed` if the file has been replaced in between. Raises FileNotFoundError, IsADirectoryError.
    """
    return cast(IO[bytes], io.BufferedReader(_Reader(url)))


class _Reader(io.RawIOBase):
    """The raw file below `open_read`'s buffer."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._position = 0
        self._handle: Any = None
        self._handle, self._identity = retried(self._opened, url)
        self._size = self._identity[0]
        self._can_seek = self._size >= 0 and bool(self._handle.seekable())
        self._broken = False

    def _opened(self) -> tuple[Any, tuple[int, str]]:
        """A new handle, and the size (-1 unknown) and version of what it reads."""
        if is_local(self.url):
            handle: Any = open(absolute(self.url), "rb", buffering=0)  # noqa: SIM115
            info = os.fstat(handle.fileno())
            return handle, (info.st_size, str(info.st_mtime_ns))
        fs, path = filesystem(self.url)
        fs.invalidate_cache()
        handle = fs.open(path, "rb")
        if isinstance(handle, MemoryFile):  # the stored object itself, with one position for all its readers
            handle = io.BytesIO(handle.getvalue())
            return handle, (len(handle.getbuffer()), "")
        details = getattr(handle, "details", None)
        version = str(details.get("ETag") or details.get("etag") or "") if isinstance(details, dict) else ""
        n_bytes = getattr(handle, "size", None)
        return handle, (n_bytes if isinstance(n_bytes, int) else -1, version)

    def _reopen(self) -> None:
        with contextlib.suppress(Exception):
            self._handle.close()
        self._handle, identity = self._opened()
        if identity != self._identity:
            raise Changed(f"{redacted(self.url)} was replaced while it was read")
        if self._can_seek:
            self._handle.seek(self._position)
        else:
            rest = self._position
            while rest and (skipped := len(self._handle.read(min(rest, 1 << 20)))):
                rest -= skipped

    def readinto(self, buffer: Any) -> int:
        pause = Pause(self.url)
        while True:
            try:
                if self._broken:
                    self._reopen()
                    self._broken = False
                n = self._read_once(buffer)
            except Exception as error:  # noqa: BLE001  raised by `after` unless it is the network's
                self._broken = True
                pause.after(error)
            else:
                self._position += n
                return n

    def _read_once(self, buffer: Any) -> int:
        if hasattr(self._handle, "readinto"):
            n = self._handle.readinto(buffer) or 0
        else:
            data = self._handle.read(len(buffer))
            n = len(data)
            buffer[:n] = data
        if n == 0 and len(buffer) and self._position < self._size:
            raise ConnectionError(f"the stream ended at byte {self._position} of {self._size}")
        return n

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not self._can_seek:
            raise io.UnsupportedOperation("seek")
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._size
        if offset < 0:
            raise ValueError("a negative position")
        if offset != self._position:
            if not self._broken:
                self._handle.seek(offset)
            self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._can_seek

    def fileno(self) -> int:
        return self._handle.fileno() if is_local(self.url) else super().fileno()

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(Exception):
                if self._handle is not None:
                    self._handle.close()
        super().close()


def sha256(url: str) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with open_read(url) as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
