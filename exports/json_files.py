"""JSON of any length, written record by record."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import storage

Add = Callable[[Any], None]


def encoded(document: Any) -> bytes:
    """A document on one line, in UTF-8."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


@contextlib.contextmanager
def json_lines(url: str) -> Iterator[Add]:
    """A file with a document a line; gives the function that adds one."""
    with storage.atomic_write(url) as file:

        def add(document: Any) -> None:
            file.write(encoded(document) + b"\n")

        yield add


@contextlib.contextmanager
def json_list(url: str) -> Iterator[Add]:
    """A file that is one JSON list; gives the function that adds an item."""
    with storage.atomic_write(url) as file:
        file.write(b"[")
        yield _adder(file)
        file.write(b"\n]")


@contextlib.contextmanager
def json_lists(url: str, head: Mapping[str, Any], names: Sequence[str]) -> Iterator[dict[str, Add]]:
    """A file that is an object: `head`, and long lists under `names`; gives a function for each that adds an item.

    The lists wait in temporary files until the end.
    """
    with contextlib.ExitStack() as stack:
        waiting = {name: stack.enter_context(tempfile.TemporaryFile()) for name in names}
        yield {name: _adder(file) for name, file in waiting.items()}
        with storage.atomic_write(url) as target:
            target.write(encoded(head)[:-1])
            for i, (name, file) in enumerate(waiting.items()):
                target.write((", " if head or i else "").encode() + encoded(name) + b": [")
                file.seek(0)
                shutil.copyfileobj(file, target, 1 << 20)
                target.write(b"\n]")
            target.write(b"}")


def _adder(file: IO[bytes]) -> Add:
    separator = b"\n"

    def add(item: Any) -> None:
        nonlocal separator
        file.write(separator + encoded(item))
        separator = b",\n"

    return add
