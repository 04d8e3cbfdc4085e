"""Files by path or URL (local, s3://, gs://, ...), through fsspec, with atomic writes."""

from __future__ import annotations

import contextlib
import glob as globbing
import hashlib
import os
import uuid
from collections.abc import Iterator
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

#: Temporary names start with this; whatever starts with it was never committed and may be removed.
TEMPORARY = ".tmp-"


def join(base: str, *parts: str) -> str:
    """`base/part/part`, for paths and URLs alike."""
    return "/".join([base.rstrip("/") or "/", *parts])


def absolute(url: str) -> str:
    """A local path made absolute (`~` expanded); a URL as it is."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of `url` and the path in it."""
    return fsspec.core.url_to_fs(absolute(url))


def exists(url: str) -> bool:
    fs, path = filesystem(url)
    return fs.exists(path)


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, or of its range [start, end). Raises FileNotFoundError."""
    fs, path = filesystem(url)
    return fs.cat_file(path, start=start, end=end)


def open_read(url: str) -> IO[bytes]:
    fs, path = filesystem(url)
    return fs.open(path, "rb")


def listing(url: str) -> dict[str, int]:
    """Name -> size in bytes of the files directly in a folder; empty if there is no such folder."""
    fs, path = filesystem(url)
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        e["name"].rstrip("/").rsplit("/", 1)[-1]: int(e["size"] or 0) for e in entries if e["type"] == "file"
    }


def tree(url: str) -> dict[str, int]:
    """Path below the folder -> size in bytes, for every file in it, however deep."""
    fs, path = filesystem(url)
    root = path.strip("/") + "/"
    return {
        name.lstrip("/")[len(root) :]: int(info["size"] or 0)
        for name, info in fs.find(path, detail=True).items()
    }


def expand(urls: list[str]) -> list[str]:
    """Glob patterns expanded, each in sorted order. Raises FileNotFoundError for one that matches nothing."""
    found: list[str] = []
    for url in urls:
        fs, path = filesystem(url)
        if globbing.has_magic(path):
            matches = sorted(fs.glob(path))
            if not matches:
                raise FileNotFoundError(url)
            found += [fs.unstrip_protocol(m) if "://" in url else m for m in matches]
        else:
            found.append(absolute(url))
    return found


def remove(url: str) -> None:
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def sha256(url: str) -> str:
    """sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with open_read(url) as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(url: str) -> Iterator[IO[bytes]]:
    """A file that appears whole or not at all.

    Local: written to a unique temporary name in the same folder, fsynced, renamed, the folder fsynced. Object stores
    have no rename and need none: an upload becomes visible when it is complete, and an exception abandons it.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}-{name}")
        try:
            with open(temporary, "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    else:
        upload = fs.open(path, "wb")
        try:
            yield upload
        except BaseException:
            if hasattr(upload, "discard"):
                upload.discard()
            raise
        upload.close()


def write_bytes(url: str, data: bytes) -> None:
    """Writes a file atomically."""
    with atomic_write(url) as f:
        f.write(data)


def sweep(url: str, older_than: float = float("inf")) -> list[str]:
    """Removes temporary files that a dead writer left in a folder; returns their names.

    `older_than` is a POSIX time: a younger file may belong to a writer that outlived its driver, and is left.
    """
    fs, path = filesystem(url)
    swept = []
    for name in listing(url):
        if not name.startswith(TEMPORARY):
            continue
        file = join(path, name)
        if isinstance(fs, LocalFileSystem) and os.stat(file).st_mtime >= older_than:
            continue
        remove(join(url, name))
        swept.append(name)
    return swept
