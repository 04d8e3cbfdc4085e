"""Files by path or URL: what a store says of one, its bytes, its removal.

Nothing is answered from a cache: a file that another process wrote a moment ago is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from inspect import signature
from stat import S_ISDIR
from typing import Any, TypeVar

from storage.location import absolute, filesystem, is_local, protocol, redacted
from storage.retries import retried
from storage.verdicts import ShortRead

T = TypeVar("T")
#: Temporary names start with this; whatever starts with it was never committed and may be removed.
TEMPORARY = ".tmp-"
#: The name of the file that says who writes into a folder (see storage/claim.py); its companions start with it too.
CLAIM = ".claim"
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class FileStat:
    """What a store says of one file: its size (-1 unknown), what changes when it is replaced (etag or time; ""
    unknown) and its time of change by the store's clock (POSIX seconds; NaN unknown).
    """

    n_bytes: int
    version: str
    modified: float


def is_litter(name: str) -> bool:
    """Whether a file of this name is nobody's data: what macOS and Windows leave behind, temporaries and claims."""
    name = name.rsplit("/", 1)[-1]
    return name.startswith((TEMPORARY, CLAIM, "._")) or name in (
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX",
    )


def on_remote(url: str, operation: Callable[[Any, str], T]) -> T:
    """`operation(file system, path)`, tried again where the infrastructure failed, on fresh listings."""

    def once() -> T:
        fs, path = filesystem(url)
        fs.invalidate_cache()
        return operation(fs, path)

    return retried(once, url)


def stat(url: str) -> FileStat:
    """Size, version and time of a file. Raises FileNotFoundError, IsADirectoryError for a folder."""
    if is_local(url):
        path = absolute(url)
        found = retried(lambda: os.stat(path), url)
        if S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        return local_stat(found)
    info = on_remote(url, lambda fs, path: fs.info(path))
    if info["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder", redacted(url))
    return stat_of(info)


def size(url: str) -> int:
    """Bytes of a file; -1 where a web server does not say."""
    return stat(url).n_bytes


def exists(url: str) -> bool:
    """Whether there is a file or a folder. An error other than 'no such file' is raised, not taken for a no."""
    try:
        stat(url)
    except IsADirectoryError:
        return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        if is_local(url) and (
            isinstance(error, ValueError) or error.errno in GONE
        ):  # a NUL in a name, a loop of links
            return False
        raise
    return True


def is_folder(url: str) -> bool:
    """Whether `url` is a folder (of an object store: a prefix of names)."""
    try:
        stat(url)
    except IsADirectoryError:
        return True
    except FileNotFoundError:
        pass
    return False


def local_stat(found: os.stat_result) -> FileStat:
    return FileStat(found.st_size, str(found.st_mtime_ns), found.st_mtime)


def stat_of(info: dict[str, Any]) -> FileStat:
    """`FileStat` of what fsspec says of a file; every file system has its own names."""
    modified = next((v for k in _TIMES if (v := _posix(info.get(k))) is not None), float("nan"))
    version = next((str(info[k]).strip('"') for k in _VERSIONS if info.get(k)), "")
    n_bytes = info.get("size")
    return FileStat(
        -1 if n_bytes is None else int(n_bytes),
        version or ("" if modified != modified else str(modified)),
        modified,
    )


_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "content_md5", "blob_id")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


def _posix(value: Any) -> float | None:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, or of its range [start, end).

    Raises FileNotFoundError, and `ShortRead` if the file ends before `end`; an empty range costs no request.
    """
    if start is None and end is None:
        return _whole(url)
    start = start or 0
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"{redacted(url)}: no range of bytes: [{start}, {end})")
    if end is None:
        end = max(start, size(url))
    if start == end:
        return b""
    return retried(lambda: _range(url, start, end), url)


def _whole(url: str) -> bytes:
    if is_local(url):

        def read() -> bytes:
            with open(absolute(url), "rb") as file:
                return file.read()

        return retried(read, url)

    def fetch(fs: Any, path: str) -> bytes:
        # s3fs would ask for the size first, to fetch large files in pieces
        single = protocol(url) in ("s3", "s3a") and "max_concurrency" in signature(fs._cat_file).parameters
        return fs.cat_file(path, max_concurrency=1) if single else fs.cat_file(path)

    return on_remote(url, fetch)


def _range(url: str, start: int, end: int) -> bytes:
    if is_local(url):
        with open(absolute(url), "rb") as file:
            file.seek(start)
            data = file.read(end - start)
    else:
        fs, path = filesystem(url)
        try:
            data = fs.cat_file(path, start=start, end=end)
        except Exception as error:
            # 416, range not satisfiable
            unsatisfied = (
                getattr(error, "errno", None) == errno.EINVAL or getattr(error, "status", None) == 416
            )
            if unsatisfied and 0 <= size(url) < end:
                raise _short(url, end) from None
            raise
    if len(data) > end - start:  # a web server that knows no ranges sends the whole file
        data = data[start:end]
    if len(data) < end - start:
        if 0 <= size(url) < end:
            raise _short(url, end)
        raise ConnectionError(f"{len(data)} of {end - start} bytes came")
    return data


def _short(url: str, end: int) -> ShortRead:
    return ShortRead(f"{redacted(url)} ends before byte {end}: it is another file than when it was listed")


def remove(url: str) -> None:
    """Removes a file; that it is not there is no error."""
    if is_local(url):

        def unlink() -> None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(absolute(url))

        retried(unlink, url)
    else:
        with contextlib.suppress(FileNotFoundError):
            on_remote(url, lambda fs, path: fs.rm_file(path))
