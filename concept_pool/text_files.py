"""Word lists and templates of users' own: text files by path or URL."""

from __future__ import annotations

import io

import storage


def read_text(url: str) -> str:
    """A UTF-8 text file (with or without a byte order mark), its line ends made `\\n`.

    Raises FileNotFoundError, and ValueError that names the file and the place of the first byte that is no UTF-8.
    """
    data = storage.read_bytes(storage.absolute(url))
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError:
        raise ValueError(f"{url}: not UTF-8 text, see byte {_first_bad(data)}") from None


def _first_bad(data: bytes) -> int:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as e:
        return e.start
    return len(data)
