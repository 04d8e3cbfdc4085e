"""Folders of very many files: looked at in blocks or as a stream, never as one listing in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from inspect import signature
from typing import Any

from storage.files import GONE, on_remote, size, stat_of
from storage.listings import entries
from storage.location import absolute, filesystem, is_local, join
from storage.retries import retried
from storage.threads import map_threads

#: Fewer names than this are asked for one by one where a store can list by prefix.
FEW = 8


def sizes(url: str, names: Sequence[str]) -> dict[str, int]:
    """Name -> size in bytes of those of these files of a folder that are there.

    Local: one `stat` each. A store that lists by prefix: one listing of all names that begin as these do, so let them be
    neighbours. Elsewhere one request a name, some at once.
    """
    if is_local(url):
        found = retried(lambda: [(name, _local_size(join(url, name))) for name in names], url)
    elif len(names) >= FEW and _lists_by_prefix(url):
        wanted = frozenset(names)
        listed = _by_prefix(url, os.path.commonprefix(list(names)))  # noqa: RUF071 - of characters, not of folders
        found = [(name, n_bytes) for name, n_bytes in listed if name in wanted]
    else:
        found = list(zip(names, map_threads(lambda name: _remote_size(join(url, name)), names), strict=True))
    return {name: n_bytes for name, n_bytes in found if n_bytes is not None}


def names(url: str) -> Iterator[str]:
    """The names of the files and folders directly in a folder, in no order, as the store sends them; none if there is none.

    S3 and local folders are read page by page; of other stores the whole listing is in memory at once.
    """
    if is_local(url):
        try:
            with os.scandir(absolute(url)) as found:
                for entry in found:
                    yield entry.name
        except OSError as error:
            if error.errno not in GONE:
                raise
        return
    fs, path = filesystem(url)
    if hasattr(fs, "call_s3"):
        yield from _s3_pages(url, path.rstrip("/") + "/")
    else:
        yield from entries(url)


def _s3_pages(url: str, path: str) -> Iterator[str]:
    bucket, _, prefix = path.partition("/")
    token: dict[str, str] = {}
    while True:
        page = on_remote(url, partial(_page, bucket, prefix, token))
        for found in page.get("Contents", ()):
            if found["Key"] != prefix:
                yield found["Key"][len(prefix) :]
        for folder in page.get("CommonPrefixes", ()):
            yield folder["Prefix"][len(prefix) :].rstrip("/")
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def _page(bucket: str, prefix: str, token: dict[str, str], fs: Any, _: str) -> dict[str, Any]:
    return fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/", **token)


def _local_size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def _remote_size(url: str) -> int | None:
    try:
        return size(url)
    except FileNotFoundError:
        return None


def _lists_by_prefix(url: str) -> bool:
    fs = filesystem(url)[0]
    return "prefix" in signature(getattr(type(fs), "_find", type(fs).find)).parameters


def _by_prefix(url: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Name and size of the files directly in a folder whose names begin so."""

    def ask(fs: Any, path: str) -> dict[str, Any]:
        try:
            return fs.find(path, prefix=prefix, detail=True)
        except FileNotFoundError:
            return {}

    folder = filesystem(url)[1].strip("/")
    for name, info in on_remote(url, ask).items():
        below = name.lstrip("/")[len(folder) + 1 :]
        if "/" not in below and info.get("type") != "directory":
            yield below, stat_of(info).n_bytes
