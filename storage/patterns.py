"""Patterns (`*`, `?`, `[...]`, `**`) in paths and URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from storage.files import exists
from storage.listings import children
from storage.location import absolute, is_local, join, protocol, redacted

_MAGIC = re.compile(r"[*?[]")


def expand(urls: Iterable[str]) -> list[str]:
    """Every path or URL that is a pattern replaced by the files it matches, in sorted order; nothing twice.

    A file or folder that exists under the very name wins over the pattern, part by part: `[2021] photos/*.tar` are the
    tars of that folder. `**` stands for folders of any depth; hidden names match only patterns that begin with a dot.
    A web address is never a pattern. Raises FileNotFoundError that names what matches nothing or is not there (of
    remote locations without a pattern, nothing is asked).
    """
    found: dict[str, None] = {}
    for url in urls:
        matches = sorted(_matching(absolute(url)))
        if not matches:
            raise FileNotFoundError(f"no file matches {redacted(url)}")
        found.update(dict.fromkeys(matches))
    return list(found)


def _matching(url: str) -> list[str]:
    if is_local(url):
        if os.path.lexists(url):
            return [url]
        if not _MAGIC.search(url):
            raise FileNotFoundError(f"no such file: {url}")
        return list(_matches("/", url.strip("/").split("/")))
    if protocol(url) in ("http", "https") or not _MAGIC.search(url) or exists(url):
        return [url]
    start = url.index("://") + 3
    bucket, *segments = url[start:].strip("/").split("/")
    return list(_matches(url[:start] + bucket, segments))


def _matches(folder: str, segments: list[str]) -> Iterator[str]:
    """Files below `folder` whose path fits the segments, one a level."""
    while segments and len(segments) > 1 and not _MAGIC.search(segments[0]):
        folder, segments = join(folder, segments[0]), segments[1:]
    first, rest = segments[0], segments[1:]
    if first == "**":
        yield from _matches(folder, rest or ["*"])
        for name in children(folder)[1]:
            if not name.startswith("."):
                yield from _matches(join(folder, name), segments)
        return
    files, folders = children(folder)
    names: Iterable[str] = folders if rest else files
    fitting = [n for n in names if fnmatchcase(n, first) and (first[0] == "." or n[0] != ".")]
    for name in [first] if first in names else fitting:
        if rest:
            yield from _matches(join(folder, name), rest)
        else:
            yield join(folder, name)
