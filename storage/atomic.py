"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from typing import IO, Any, cast

from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from storage.files import TEMPORARY, remove, stat
from storage.listings import children
from storage.location import absolute, filesystem, is_local, join, protocol, redacted
from storage.many import names
from storage.retries import retried

#: Remote file systems with folders and names that can change, where an upload is visible while it is written.
_WITH_RENAME = frozenset({"sftp", "ssh", "ftp", "smb", "hdfs", "arrow_hdfs", "webhdfs"})
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
_IN_MEMORY = threading.Lock()
_CHUNK = 8 << 20


@contextlib.contextmanager
def atomic_write(url: str) -> Iterator[IO[bytes]]:
    """A file that appears whole or not at all.

    Local: written to a unique temporary name in the same folder, fsynced, renamed, the folder fsynced. Elsewhere: kept
    in a local temporary file until it is whole, and then sent in one upload, which may be tried again; after an
    exception nothing has been sent.
    """
    if is_local(url):
        with _local_write(absolute(url)) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile(prefix=TEMPORARY) as spool:
        yield cast(IO[bytes], spool)
        spool.flush()
        retried(lambda: _send(url, spool.name), url)


def write_bytes(url: str, data: bytes) -> None:
    """Writes a file atomically."""
    if is_local(url):
        with _local_write(absolute(url)) as file:
            file.write(data)
    else:
        retried(lambda: _send(url, data), url)


def write_new(url: str, data: bytes) -> bool:
    """Writes a file only if there is none of that name; whether it did. Of several writers at once, one succeeds.

    The file appears whole. A request whose answer got lost is recognised by its bytes, so let them be unique.
    """
    if is_local(url):
        return _local_new(absolute(url), data)

    def create() -> bool:
        try:
            _create(url, data)
        except (
            FileExistsError
        ):  # also in the first attempt: HTTP libraries send a request again by themselves
            fs, path = filesystem(url)
            return bool(fs.cat_file(path) == data)
        return True

    return retried(create, url)


def temporary_name(name: str) -> str:
    """A unique name that `sweep` finds, short enough for any file system."""
    start = f"{TEMPORARY}{uuid.uuid4().hex}-"
    return start + os.fsdecode(os.fsencode(name)[: 255 - len(start)])


@contextlib.contextmanager
def _local_write(path: str) -> Iterator[IO[bytes]]:
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    file = retried(lambda: _opened(folder, temporary), path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        retried(lambda: os.replace(temporary, path), path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _opened(folder: str, path: str) -> IO[bytes]:
    os.makedirs(folder, exist_ok=True)
    return open(path, "wb")


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _local_new(path: str, data: bytes) -> bool:
    for _ in range(5):
        try:
            return _local_new_once(path, data)
        except (
            FileNotFoundError
        ):  # who holds the folder's claim swept our file, which was taken for a dead writer's
            continue
    return _local_new_once(path, data)


def _local_new_once(path: str, data: bytes) -> bool:
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    try:
        with retried(lambda: _opened(folder, temporary), path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        created = _linked(temporary, path, data)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    if created:
        _sync_folder(folder)
    return created


def _linked(temporary: str, path: str, data: bytes) -> bool:
    """Gives the file `temporary` the name `path` too, unless that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return os.stat(temporary).st_nlink > 1  # a file server may have done it and lost the answer
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            with open(path, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return False
    return True


def _send(url: str, content: bytes | str) -> None:
    """Writes bytes, or the local file of that name, to a remote store; whole or not at all."""
    fs, path = filesystem(url)
    if protocol(url) in _WITH_RENAME:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/{temporary_name(name)}"
        fs.makedirs(folder, exist_ok=True)
        _upload(fs, temporary, content)
        try:
            fs.mv(temporary, path)
        except FileExistsError:
            fs.rm_file(path)
            fs.mv(temporary, path)
        return
    own = isinstance(fs, AbstractFileSystem) and type(fs).pipe_file is not AbstractFileSystem.pipe_file
    try:
        if isinstance(content, str) and getattr(fs, "async_impl", False):
            fs.put_file(content, path)
            return
        if own or getattr(fs, "async_impl", False):
            fs.pipe_file(path, _bytes_of(content))
            return
    except NotImplementedError:
        pass
    _upload(fs, path, content)


def _bytes_of(content: bytes | str) -> bytes:
    if isinstance(content, bytes):
        return content
    with open(content, "rb") as file:
        return file.read()


def _upload(fs: Any, path: str, content: bytes | str) -> None:
    """Writes through the file system's own file object, which is abandoned if anything fails."""
    upload = fs.open(path, "wb")
    try:
        if isinstance(content, bytes):
            upload.write(content)
        else:
            with open(content, "rb") as source:
                shutil.copyfileobj(source, upload, _CHUNK)
        upload.close()
    except BaseException:
        abandon(upload)
        raise


def abandon(upload: Any) -> None:
    """Gives up an upload for good. Where `discard` does nothing, fsspec's file objects would still publish what they
    hold when they are closed or collected: they are made to look closed.
    """
    with contextlib.suppress(Exception):
        upload.discard()
    with contextlib.suppress(Exception):
        upload.closed = True


def _create(url: str, data: bytes) -> None:
    """Raises FileExistsError if the file is there."""
    fs, path = filesystem(url)
    if isinstance(fs, MemoryFileSystem):
        with _IN_MEMORY:
            fs.pipe_file(path, data, mode="create")
        return
    if getattr(fs, "async_impl", False):
        fs.pipe_file(path, data, mode="create")
        return
    if fs.exists(path):  # not exclusive: there is nothing better in fsspec's interface
        raise FileExistsError(errno.EEXIST, "file exists", redacted(url))
    _send(url, data)


def store_clock(folder: str) -> float:
    """The time (POSIX seconds) by the clock of the store that holds `folder`, by writing a file into it."""
    for _ in range(5):
        probe = join(folder, temporary_name("clock"))
        try:
            write_bytes(probe, b".")
            modified = stat(probe).modified
        except FileNotFoundError:  # who holds the folder's claim swept it
            continue
        finally:
            remove(probe)
        return modified if modified == modified else time.time()
    return time.time()


def sweep(url: str, older_than: float = float("inf")) -> list[str]:
    """Removes temporary files that a dead writer left in a folder; returns their names.

    `older_than` is a POSIX time by this machine's clock: a younger file may belong to a writer that outlived its
    driver, and is left. The store's clock is asked how far it is off.
    """
    found = sorted(name for name in names(url) if name.startswith(TEMPORARY))
    if found and older_than != float("inf"):
        older_than += store_clock(url) - time.time()
    swept = []
    for name in found:
        try:
            if stat(join(url, name)).modified >= older_than:  # NaN, an unknown time, counts as old
                continue
        except (FileNotFoundError, IsADirectoryError):
            continue
        remove(join(url, name))
        swept.append(name)
    return swept


def remove_empty_folders(url: str) -> None:
    """Removes the folders below (and including) a local folder that hold nothing; nothing to do elsewhere."""
    if not is_local(url):
        return
    for name in children(url)[1]:
        remove_empty_folders(join(url, name))
    with contextlib.suppress(OSError):
        os.rmdir(absolute(url))
