"""What lies in a folder, always as the store says now: never from a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from stat import S_ISDIR, S_ISREG
from typing import Any

from fsspec.asyn import AsyncFileSystem

from storage.files import GONE, FileStat, local_stat, on_remote, stat_of
from storage.location import absolute, filesystem, is_local, join, protocol
from storage.retries import retried
from storage.verdicts import NO_ABSENCE, verdict


def entries(url: str) -> dict[str, FileStat]:
    """Name -> `FileStat` of the files directly in a folder, sorted; links are followed, folders and the markers that
    stand for them in object stores left out. Empty if there is no such folder.
    """
    return children(url)[0]


def children(url: str) -> tuple[dict[str, FileStat], list[str]]:
    """The files (as `entries`) and the names of the folders directly in a folder, both sorted."""
    if is_local(url):
        return retried(lambda: _local_children(absolute(url)), url)

    def ask(fs: Any, path: str) -> list[dict[str, Any]]:
        try:
            return fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            if verdict(error) in NO_ABSENCE:
                raise  # a web server's 503 comes as "not found"
            return []

    path = filesystem(url)[1]
    files, folders = {}, set()
    try:
        listed = on_remote(url, ask)
    except FileNotFoundError:  # a web server's 410
        listed = []
    for info in listed:
        name = _below(path, info["name"], protocol(url))
        if name is None:
            continue
        if info["type"] == "directory" or name.endswith("/"):
            folders.add(name.strip("/"))
        else:
            files[name] = stat_of(info)
    return _without_markers(files, folders), sorted(folders)


def listing(url: str) -> dict[str, int]:
    """Name -> size in bytes of the files directly in a folder; see `entries`."""
    return {name: found.n_bytes for name, found in entries(url).items()}


def tree_entries(url: str) -> dict[str, FileStat]:
    """Path below the folder -> `FileStat`, for every file in it, however deep; links to folders are followed."""
    if is_local(url):
        return dict(sorted(retried(lambda: list(_local_tree(absolute(url), "", ())), url)))
    fs, path = filesystem(url)
    if not (getattr(fs, "async_impl", False) and type(fs)._find is not AsyncFileSystem._find):
        return dict(sorted(_walked(url, "")))
    files = {}
    try:
        listed = on_remote(url, lambda fs, path: fs.find(path, detail=True))
    except FileNotFoundError:
        return {}
    for name, info in listed.items():
        below = _below(path, name, protocol(url))
        if below and info.get("type") != "directory" and not below.endswith("/"):
            files[below] = stat_of(info)
    folders = {name.rsplit("/", n)[0] for name in files for n in range(1, name.count("/") + 1)}
    return _without_markers(files, folders)


def _walked(url: str, below: str) -> Iterator[tuple[str, FileStat]]:
    """Like `tree_entries`, folder by folder; fsspec's own walk leaves out what could not be listed."""
    files, folders = children(url)
    for name, found in files.items():
        yield below + name, found
    for name in folders:
        yield from _walked(join(url, name), f"{below}{name}/")


def tree(url: str) -> dict[str, int]:
    """Path below the folder -> size in bytes, for every file in it, however deep; see `tree_entries`."""
    return {name: found.n_bytes for name, found in tree_entries(url).items()}


def _without_markers(files: dict[str, FileStat], folders: set[str]) -> dict[str, FileStat]:
    """Files, sorted, without the empty objects that consoles and Hadoop make for folders."""
    return {
        name: found
        for name, found in sorted(files.items())
        if found.n_bytes != 0 or not (name in folders or name.endswith("_$folder$") or not name)
    }


def _below(folder: str, name: str, kind: str) -> str | None:
    """The path of an entry below the folder that was listed; None for the folder (or file) itself."""
    if kind in ("http", "https"):
        folder, name = folder.partition("?")[0], name
    folder, name = folder.strip("/"), name.lstrip("/")
    if not folder:
        return name or None
    return name[len(folder) + 1 :] if name.startswith(folder + "/") and len(name) > len(folder) + 1 else None


def _local_children(folder: str) -> tuple[dict[str, FileStat], list[str]]:
    files, folders = {}, []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                try:
                    info = entry.stat()
                except OSError as error:
                    if error.errno in GONE:  # it vanished, or is a link to nothing
                        continue
                    raise
                if S_ISDIR(info.st_mode):
                    folders.append(entry.name)
                elif S_ISREG(info.st_mode):
                    files[entry.name] = local_stat(info)
    except OSError as error:
        if error.errno not in GONE:
            raise
    return dict(sorted(files.items())), sorted(folders)


def _local_tree(folder: str, below: str, above: tuple[str, ...]) -> Iterator[tuple[str, FileStat]]:
    """Files in `folder`, whose name in the tree is `below`. A link to a folder above itself is not entered."""
    real = os.path.realpath(folder)
    if real in above:
        return
    files, folders = _local_children(folder)
    for name, found in files.items():
        yield below + name, found
    for name in folders:
        yield from _local_tree(os.path.join(folder, name), f"{below}{name}/", (*above, real))
