"""Images in a folder, found by what foreign data calls them. Nothing outside of the folder is ever opened."""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from typing import Any
from urllib.parse import unquote, urlsplit

import storage
from pipeline.images import BadSample
from pipeline.sources import InputChanged
from pipeline.sources.files import check_folder

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class ImageFolder:
    """Files below `root`, a folder or a URL.

    Names may be relative (`train/1.jpg`, `./1.jpg`, `train\\\\1.jpg`), absolute or `file://` paths, or URLs, as long as
    they lead below the root. What folders hold is listed once, by `storage.listing`; web servers cannot be listed, so
    there a name is taken as it is.
    """

    def __init__(self, root: str, key: str):
        self.root = root
        self._key = key
        self._is_web = storage.protocol(root) in ("http", "https")
        self._folders: dict[str, dict[str, int]] = {}
        self._composed: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def find(self, name: Any) -> tuple[str, int]:
        """The place of a file below the root, and its size (-1: unknown). Raises BadSample: bad_path, outside_root,
        missing_file."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise BadSample("bad_path", f"{_shown(name)} is no path")
        candidates = relative_paths(self.root, name)
        if self._is_web:
            return candidates[0], -1
        for location in candidates:
            folder, _, base = location.rpartition("/")
            sizes = self._listing(folder)
            if base in sizes:
                return location, sizes[base]
            other = self._composed[folder].get(unicodedata.normalize("NFC", base))
            if other is not None:
                return (f"{folder}/{other}" if folder else other), sizes[other]
        raise BadSample("missing_file", f"{_shown(name)} is not in {self._key}")

    def _listing(self, folder: str) -> dict[str, int]:
        with self._lock:
            if folder not in self._folders:
                found = storage.listing(self.url(folder) if folder else self.root)
                self._composed[folder] = {unicodedata.normalize("NFC", n): n for n in sorted(found)}
                self._folders[folder] = found
            return self._folders[folder]

    def url(self, location: str) -> str:
        """The address of a place below the root."""
        return storage.inside(self.root, location)

    def read(self, location: str, n_bytes: int = -1) -> bytes:
        """The bytes of a file. InputChanged where it does not hold the `n_bytes` that it was indexed with."""
        if n_bytes == 0:
            return b""
        try:
            data = storage.read_bytes(self.url(location))
        except FileNotFoundError:
            self.check()
            if n_bytes < 0:
                raise BadSample("missing_file", f"{_shown(location)} is not in {self._key}") from None
            raise InputChanged(f"{location} is not in {self._key} any more") from None
        except IsADirectoryError:
            raise BadSample("missing_file", f"{_shown(location)} is a folder") from None
        if n_bytes >= 0 and len(data) != n_bytes:
            raise InputChanged(f"{location} holds {len(data)} bytes, {n_bytes} when it was indexed")
        return data

    def check(self) -> None:
        """FileNotFoundError if the folder is not there now."""
        check_folder(self.root, self._key)


def relative_paths(root: str, name: str) -> list[str]:
    """The places below `root` that a foreign path may mean, the likeliest first. Raises BadSample outside_root.

    As written first; then, where it holds backslashes, as Windows means it. A file:// URL is unquoted, and taken
    literally where that leads nowhere.
    """
    found = []
    for path in _readings(root, name):
        parts = _parts(path)
        location = None if parts is None else "/".join(parts)
        if location and location not in found:
            found.append(location)
    if not found:
        raise BadSample("outside_root", f"{_shown(name)} does not lead below the folder of the images")
    return found


def _readings(root: str, name: str) -> list[str]:
    """Paths relative to the root; none where an address leads elsewhere."""
    name = name.strip("\r\n")
    if name.lower().startswith("file:"):
        path = urlsplit(name.replace("?", "%3F").replace("#", "%23")).path
        return [r for p in (unquote(path), path) for r in _below(root, p)]
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        public = storage.redacted(name)
        return [public[len(root) :].lstrip("/")] if public.startswith(root.rstrip("/") + "/") else []
    if name.startswith("/"):
        return _below(root, name)
    if _DRIVE.match(name):
        return []
    return [name, name.replace("\\", "/")]


def _below(root: str, path: str) -> list[str]:
    """An absolute local path relative to the root, also where one of them goes through a link."""
    if "://" in root:
        return []
    path = os.path.normpath(path)
    found = []
    for base, file in ((root, path), (os.path.realpath(root), os.path.realpath(os.path.dirname(path)))):
        if file is not path:
            file = f"{file}/{os.path.basename(path)}"
        if file.startswith(base.rstrip("/") + "/"):
            found.append(file[len(base.rstrip("/")) + 1 :])
    return found


def _parts(path: str) -> list[str] | None:
    """The parts of a path without `.` and `..`; None where it leads above its start."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _shown(value: Any) -> str:
    text = storage.redacted(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
