"""Files of a dataset that are written anew for a proof, and come back where it fails."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import storage


@contextlib.contextmanager
def put_back(urls: list[str], error: type[Exception]) -> Iterator[None]:
    """Where the body raises `error`, these files are as they were before it, written in this order; one that was not there
    is removed. Until then they wait on this machine's disk: there may be thousands, of many megabytes each.
    """
    with tempfile.TemporaryDirectory(prefix="regionpairs-") as folder:
        copies = [(url, os.path.join(folder, str(i))) for i, url in enumerate(urls)]
        there = list(storage.map_threads(_keep, copies))
        try:
            yield
        except error:
            for (url, _), was in zip(copies, there, strict=True):
                if not was:
                    storage.remove(url)
            for (url, file), was in zip(copies, there, strict=True):
                if was:
                    storage.write_bytes(url, storage.read_bytes(file))
            raise


def _keep(copy: tuple[str, str]) -> bool:
    """Whether the file was there to be copied. copy: its URL, and where to."""
    url, file = copy
    try:
        storage.write_bytes(file, storage.read_bytes(url))
    except FileNotFoundError:
        return False
    return True
