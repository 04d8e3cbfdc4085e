"""A numpy array in a file, cut into pieces that are read one by one: what a pass over all units hands to the next one.

Such files live while a plan is made. A piece costs two ranged reads whatever the file's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import storage

_NUMBER = np.dtype("<i8")


def write(url: str, array: np.ndarray, ends: Sequence[int] | np.ndarray) -> None:
    """Writes pieces of an array [N]: piece i is `array[ends[i - 1]:ends[i]]`; the last end is N."""
    edges = np.concatenate([[0], ends]).astype(np.int64) * array.dtype.itemsize
    head = (edges + head_bytes(len(ends))).astype(_NUMBER)
    with storage.atomic_write(url) as target:
        target.write(head.tobytes())
        target.write(np.ascontiguousarray(array).view(np.uint8).data)


def head_bytes(n_pieces: int) -> int:
    """What a file without rows is long."""
    return (n_pieces + 1) * _NUMBER.itemsize


def read(url: str, piece: int, kind: np.dtype[Any]) -> np.ndarray:
    """A piece, as an array of `kind`."""
    at = piece * _NUMBER.itemsize
    start, end = np.frombuffer(storage.read_bytes(url, at, at + 2 * _NUMBER.itemsize), _NUMBER).tolist()
    return np.frombuffer(storage.read_bytes(url, start, end) if end > start else b"", kind)


def n_bytes(url: str) -> int:
    """What all pieces are long."""
    start = int(np.frombuffer(storage.read_bytes(url, 0, _NUMBER.itemsize), _NUMBER)[0])
    return storage.size(url) - start


def cut(array: np.ndarray, shares: np.ndarray, n_shares: int) -> tuple[np.ndarray, np.ndarray]:
    """An array sorted by share, in its old order within each, and where the shares end. shares: int [N]."""
    order = np.argsort(shares, kind="stable")
    return array[order], np.cumsum(np.bincount(shares, minlength=n_shares))
