"""The files of a source: from patterns to a root, locations relative to it, sizes and versions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

import storage
from pipeline.sources import InputChanged, Unit

_MAGIC = re.compile(r"[*?[]")
_WEB = ("http", "https")


class Files:
    """What patterns, folders and file names of the settings stand for.

    root: the deepest folder that holds them all, "" where there is none (files of two buckets). It is found without
    listing anything, so that a worker can be made quickly.
    """

    def __init__(self, patterns: list[str], suffixes: tuple[str, ...], key: str):
        self._key = f"source.{key}"
        self._patterns = [storage.location(p, self._key) for p in patterns]
        self._suffixes = suffixes
        self.root = common_root([_static_folder(p, suffixes) for p in self._patterns])
        self._signed = {self.location(p): p for p in self._patterns if p != storage.redacted(p)}

    def location(self, url: str) -> str:
        """The file's place below the root, without query and user: what may be written down."""
        public = storage.redacted(url)
        return public[len(self.root) :].lstrip("/") if self.root else public

    def url(self, location: str) -> str:
        """The address of a location. ValueError for one that leads above the root: a plan may come from anywhere."""
        if ".." in location.split("/"):
            raise ValueError(f"{self._key}: {location} does not lie below the input's folder")
        if location in self._signed:
            return self._signed[location]
        return f"{self.root.rstrip('/')}/{location}" if self.root else location

    def units(self) -> list[Unit]:
        """A unit for each file, by pattern, then by name. FileNotFoundError names a pattern without a file."""
        urls = list(dict.fromkeys(url for pattern in self._patterns for url in self._expanded(pattern)))
        stats = storage.map_threads(storage.stat, urls)
        return [Unit(self.location(u), s.n_bytes, s.version) for u, s in zip(urls, stats, strict=True)]

    def _expanded(self, pattern: str) -> list[str]:
        try:
            found = storage.expand([pattern])
        except FileNotFoundError as e:
            raise FileNotFoundError(f"{self._key}: {e}") from None
        urls = [url for one in found for url in self._files_of(one)]
        kept = [url for url in urls if not is_clutter(url.rsplit("/", 1)[-1])]
        if not kept:
            raise FileNotFoundError(f"{self._key}: no file matches {storage.redacted(pattern)}")
        return kept

    def _files_of(self, url: str) -> list[str]:
        """The file itself; of a folder (Spark's x.parquet/) the files of this kind in it."""
        if storage.protocol(url) in _WEB or not storage.is_folder(url):
            return [url]
        inside = [n for n in storage.tree(url) if n.lower().endswith(self._suffixes) and not is_clutter(n)]
        if not inside:
            endings = ", ".join(f"*{s}" for s in self._suffixes)
            raise ValueError(f"{self._key}: {storage.redacted(url)} is a folder without files {endings}")
        return [storage.join(url, name) for name in sorted(inside)]

    def unchanged(self, unit: Unit) -> str:
        """The address of a unit's file. InputChanged if it is not the one that was listed."""
        url = self.url(unit.location)
        if unit.n_bytes >= 0:
            now = storage.stat(url)
            if now.n_bytes != unit.n_bytes or (unit.version and now.version != unit.version):
                raise InputChanged(f"{unit.location} was changed since it was listed")
        return url

    def check(self) -> None:
        """FileNotFoundError if the root is not there now."""
        check_folder(self.root, self._key)


def check_folder(root: str, key: str) -> None:
    """FileNotFoundError if a folder cannot be reached now. Web servers are not asked: they need not list folders."""
    if root and storage.protocol(root) not in _WEB and not storage.is_folder(root):
        what = "is a file; a folder is needed" if storage.exists(root) else "is not there (is it mounted?)"
        raise FileNotFoundError(f"{key}: {storage.redacted(root)} {what}")


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


def common_root(folders: list[str]) -> str:
    """The deepest folder above all of these; "" for folders of different protocols or hosts."""
    parts = [f.split("/") for f in folders]
    n = 0
    while parts and all(len(one) > n and one[n] == parts[0][n] for one in parts):
        n += 1
    if any("://" in f for f in folders):
        return "/".join(parts[0][:n]) if n >= 3 else ""
    return "/".join(parts[0][:n]) or "/" if n else ""


def is_clutter(name: str) -> bool:
    """Whether a file or tar member is what systems leave beside data: `._x`, `.DS_Store`, `Thumbs.db`, hidden files."""
    return storage.is_litter(name) or name.rsplit("/", 1)[-1].startswith((".", "_SUCCESS"))


def _static_folder(pattern: str, suffixes: tuple[str, ...]) -> str:
    """The folder that a file lies in, a folder itself, or what stands before the first wildcard of a pattern."""
    pattern = storage.redacted(pattern).rstrip("/") or "/"
    if storage.protocol(pattern) in _WEB:
        return pattern.rsplit("/", 1)[0]
    if _MAGIC.search(pattern) and not storage.exists(pattern):
        parts = pattern.split("/")
        folder = parts[0]
        for part in parts[1:]:
            if _MAGIC.search(part) and not storage.exists(f"{folder}/{part}"):
                break
            folder = f"{folder}/{part}"
        return folder or "/"
    if pattern.lower().endswith(suffixes) or not storage.is_folder(pattern):
        return pattern.rsplit("/", 1)[0] or "/"
    return pattern
