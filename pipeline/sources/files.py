"""The files of a source: from patterns to a root, locations relative to it, sizes and versions."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import storage
from pipeline.sources import Unit

#: Protocols that cannot be listed, and whose addresses may carry a signature behind `?`.
WEB = ("http://", "https://")


class Files:
    """What patterns, folders and file names of the settings stand for.

    root: the deepest folder that holds them all, "" where there is none (files of two buckets). It is found without
    listing anything, so that a worker can be made quickly.
    """

    def __init__(self, patterns: list[str], suffixes: tuple[str, ...], key: str):
        self._patterns = [p if _is_web(p) else storage.absolute(p) for p in patterns]
        self._suffixes = suffixes
        self._key = key
        self.root = common_root([_static_folder(p, suffixes) for p in self._patterns])
        self._signed = {self.location(p): p for p in self._patterns if p != without_secrets(p)}

    def location(self, url: str) -> str:
        """The file's place below the root, without query and user: what may be written down."""
        public = without_secrets(url)
        return public[len(self.root) :].lstrip("/") if self.root else public

    def url(self, location: str) -> str:
        """The address of a location."""
        if location in self._signed:
            return self._signed[location]
        return f"{self.root.rstrip('/')}/{location}" if self.root else location

    def units(self) -> list[Unit]:
        """A unit for each file, by pattern, then by name. FileNotFoundError names a pattern without a file."""
        urls = list(dict.fromkeys(url for pattern in self._patterns for url in self._expanded(pattern)))
        if len(urls) < 8:
            stats = [stat(url) for url in urls]
        else:
            with ThreadPoolExecutor(16) as pool:
                stats = list(pool.map(stat, urls))
        return [Unit(self.location(u), *found) for u, found in zip(urls, stats, strict=True)]

    def _expanded(self, pattern: str) -> list[str]:
        if _is_web(pattern):
            return [pattern]
        try:
            found = storage.expand([pattern])
        except FileNotFoundError:
            raise FileNotFoundError(f"source.{self._key}: no file is named {pattern}") from None
        urls = [url for one in found for url in self._files_of(one)]
        kept = [url for url in urls if not is_clutter(url.rsplit("/", 1)[-1])]
        if not kept:
            raise FileNotFoundError(f"source.{self._key}: no file is named {pattern}")
        return kept

    def _files_of(self, url: str) -> list[str]:
        """The file itself; of a folder (Spark's x.parquet/) the files of this kind in it."""
        fs, path = storage.filesystem(url)
        if not fs.isdir(path):
            return [url]
        inside = sorted(n for n in storage.tree(url) if n.lower().endswith(self._suffixes))
        if not inside:
            endings = ", ".join(f"*{s}" for s in self._suffixes)
            raise ValueError(f"source.{self._key}: {url} is a folder without files {endings}")
        return [storage.join(url, name) for name in inside]

    def check(self) -> None:
        """FileNotFoundError if the root is not there now."""
        check_folder(self.root, f"source.{self._key}")


def check_folder(root: str, key: str) -> None:
    """FileNotFoundError if a folder cannot be reached now. Web servers are not asked: they need not list folders."""
    if root and not _is_web(root) and not storage.exists(root):
        raise FileNotFoundError(f"{key}: {root} is not there (is it mounted?)")


def files_identity(units: Iterable[Unit]) -> dict[str, Any]:
    """Names and sizes of files, hashed: how many, their bytes, and sha256."""
    sizes = dict.fromkeys((u.location, u.n_bytes) for u in units)
    return {
        "n_files": len(sizes),
        "n_bytes": sum(n for _, n in sizes),
        "sha256": digest(sorted(sizes)),
    }


def digest(value: Any) -> str:
    """16 hex digits of the sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def stat(url: str) -> tuple[int, str]:
    """Size in bytes (-1 unknown) and version (entity tag or modification time, "" unknown) of a file."""
    fs, path = storage.filesystem(url)
    info = fs.info(path)
    version = next(
        (str(info[k]) for k in ("ETag", "etag", "mtime", "LastModified", "updated") if info.get(k)), ""
    )
    size = info.get("size")
    return (int(size) if size is not None else -1), version


def common_root(folders: list[str]) -> str:
    """The deepest folder above all of these; "" for folders of different protocols or hosts."""
    if not folders:
        return ""
    parts = [f.split("/") for f in folders]
    same = _common(parts)
    if "://" in folders[0]:
        return "/".join(same) if len(same) >= 3 and (same[2] or len(same) > 3) else ""
    return "" if any("://" in f for f in folders) else "/".join(same) or "/"


def _common(lists: list[list[str]]) -> list[str]:
    """The longest list that all of these begin with."""
    n = 0
    while all(len(one) > n and one[n] == lists[0][n] for one in lists):
        n += 1
    return lists[0][:n]


def is_clutter(name: str) -> bool:
    """Whether a file or tar member is what systems leave beside data: `._x`, `.DS_Store`, `Thumbs.db`, hidden files."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")


def without_secrets(url: str) -> str:
    """An address as it may be written down: without user, password, query and fragment. Paths are left as they are."""
    if "://" not in url:
        return url
    if not _is_web(url):  # "?" and "#" may be part of an object's name
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    try:
        split = urlsplit(url)
    except ValueError:
        return url.split("?", 1)[0]
    return urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))


def _static_folder(pattern: str, suffixes: tuple[str, ...]) -> str:
    """The folder that a file lies in, a folder itself, or what stands before the first wildcard of a pattern."""
    pattern = without_secrets(pattern).rstrip("/") or "/"
    if _is_web(pattern):
        return pattern.rsplit("/", 1)[0]
    fs, path = storage.filesystem(pattern)
    if glob.has_magic(pattern) and not fs.exists(path):
        parts = pattern.split("/")
        first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return "/".join(parts[:first]) or "/"
    if pattern.lower().endswith(suffixes) or not fs.isdir(path):
        return pattern.rsplit("/", 1)[0] or "/"
    return pattern


def _is_web(url: str) -> bool:
    return url.lower().startswith(WEB)
