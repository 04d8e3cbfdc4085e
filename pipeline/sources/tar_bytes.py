"""The bytes of a tar by position, plain or compressed."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import IO, Any

import storage

#: A compressed tar may hold so many bytes for each of its own, and so many besides; more is a decompression bomb.
MAX_RATIO = 64
MAX_SURPLUS = 64 << 20
_CHUNK = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}


class PlainBytes:
    """A file of `size` bytes. A short read inside it is an OSError: not the tar is cut, the network failed."""

    def __init__(self, file: IO[bytes], size: int):
        self._file = file
        self._size = size

    def at(self, offset: int, n: int) -> bytes:
        n = max(0, min(n, self._size - offset))
        if not n:
            return b""
        self._file.seek(offset)
        data = self._file.read(n)
        if len(data) < n:
            raise OSError(
                f"{len(data)} bytes came where {n} were asked for, at byte {offset} of {self._size}"
            )
        return data

    def holds(self, offset: int) -> bool:
        return offset < self._size


class Compressed:
    """A compressed file, by positions in its contents. Reading onwards is quick, reading backwards begins again.

    `damage` says why the contents end before their end, once that was met: cut short, no such format, a bomb.
    """

    def __init__(self, raw: PlainBytes, size: int, kind: str):
        self.damage = ""
        self._raw, self._size, self._kind = raw, size, kind
        self._rewind()

    def _rewind(self) -> None:
        self._decoder: Any = None
        self._read = 0  # bytes of the file that the decoder got
        self._buffer = b""
        self._start = 0  # position of the buffer's first byte
        self._done = False

    def at(self, offset: int, n: int) -> bytes:
        if offset < self._start:
            self._rewind()
        while self._start + len(self._buffer) < offset + n and not self._done:
            keep = max(0, min(len(self._buffer), offset - self._start))
            self._start += keep
            self._buffer = self._buffer[keep:] + self._more()
        return self._buffer[offset - self._start : offset - self._start + n] if offset >= self._start else b""

    def holds(self, offset: int) -> bool:
        return bool(self.at(offset, 1))

    def _more(self) -> bytes:
        """The next contents; b"" where the decoder needs more of the file, or at the end."""
        if self._start + len(self._buffer) > MAX_RATIO * self._size + MAX_SURPLUS:
            return self._end(f"it unpacks to more than {MAX_RATIO} times its size")
        try:
            if self._decoder is None or self._decoder.eof:
                rest = self._decoder.unused_data if self._decoder is not None else b""
                rest = rest.lstrip(b"\0") or self._raw_chunk()
                if not rest:
                    return self._end("")
                if self._decoder is not None and kind_of(rest) != self._kind:
                    return self._end("")  # padding, or a signature
                self._decoder = _decoder(self._kind)
                return self._unpack(rest)
            if self._kind == "gzip":
                data = self._decoder.unconsumed_tail or self._raw_chunk()
            else:
                data = self._raw_chunk() if self._decoder.needs_input else b""
            unpacked = self._unpack(data)
            if not (unpacked or data or self._decoder.eof) and self._read >= self._size:
                return self._end("the compressed file is cut short")
            return unpacked
        except (zlib.error, lzma.LZMAError, EOFError, ValueError) as e:
            return self._end(f"the compressed file is damaged: {e}")
        except OSError as e:
            if e.errno is not None or "stream" not in str(e):  # bz2 says so what zlib says by zlib.error
                raise
            return self._end(f"the compressed file is damaged: {e}")

    def _unpack(self, data: bytes) -> bytes:
        return self._decoder.decompress(data, _CHUNK)

    def _raw_chunk(self) -> bytes:
        chunk = self._raw.at(self._read, 1 << 18)
        self._read += len(chunk)
        return chunk

    def _end(self, damage: str) -> bytes:
        self._done = True
        self.damage = damage
        return b""


def kind_of(head: bytes) -> str:
    """gzip, bzip2, xz or zstandard by a file's first bytes; "" for what is none of them."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


def tar_bytes(url: str, file: IO[bytes], size: int) -> PlainBytes | Compressed:
    """The bytes of a tar that was opened. ValueError for a compression that Python does not read."""
    plain = PlainBytes(file, size)
    kind = kind_of(plain.at(0, 6))
    if kind == "zstandard":
        raise ValueError(f"{url} is compressed by zstandard, which is not read; unpack it or use gzip")
    return Compressed(plain, size, kind) if kind else plain


def file_size(file: IO[bytes]) -> int:
    """Size of an open file."""
    return file.seek(0, 2)


def open_tar(url: str) -> tuple[IO[bytes], PlainBytes | Compressed]:
    """The open file of a tar, to be closed by the caller, and its bytes."""
    file = storage.open_read(url)
    try:
        return file, tar_bytes(url, file, file_size(file))
    except BaseException:
        file.close()
        raise


def _decoder(kind: str) -> Any:
    if kind == "gzip":
        return zlib.decompressobj(wbits=31)
    return bz2.BZ2Decompressor() if kind == "bzip2" else lzma.LZMADecompressor(memlimit=1 << 28)
