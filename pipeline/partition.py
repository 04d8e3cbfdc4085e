"""What units have in common, found by hash partition: nobody holds all of it, and every record is written and read once.

Two passes over files below `plan/keys/`, a task an item:

    scatter   a group of units -> its records, a piece for each share of all hashes
    find      a share of the hashes -> what its records have in common, in pieces for whoever reads them

Groups and shares bound a task's memory. A file's name says what it was made of, so a pass that was cut short goes on; all
files go (`clear`) once their answer is written elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import storage
from pipeline import pieces
from pipeline.dataset.layout import Layout

Map = Callable[..., Iterator[Any]]


@dataclass(frozen=True)
class Search:
    """What is looked for. Its functions go to the workers.

    Attributes:
        name: of its files: small letters, digits, "-"
        kind: of a record
        records: item of a group -> its records [N], in plan order, and uint64 [N]: equal for records that must meet
        find: the records of a share, in plan order -> what is found, in the order of its pieces, and where these end
    """

    name: str
    kind: np.dtype[Any]
    records: Callable[[Any], tuple[np.ndarray, np.ndarray]]
    find: Callable[[np.ndarray], tuple[np.ndarray, Sequence[int] | np.ndarray]]


def search(
    layout: Layout,
    searches: Sequence[Search],
    items: Sequence[Any],
    versions: Sequence[str],
    n_shares: int,
    run: Map,
) -> list[list[str]]:
    """The files of what each search finds, by share (`pieces.read`); a file in which nothing is found is left out.

    items: of the groups, in plan order. versions: a text each, which says what the item's records depend on.
    """
    n, names = len(items), [search.name for search in searches]
    scattered = list(
        run(
            partial(scatter, layout, n_shares),
            ((one, *group) for one in searches for group in zip(range(n), items, versions, strict=True)),
        )
    )
    of_each = [scattered[i * n : (i + 1) * n] for i in range(len(names))]
    found = run(
        partial(find, layout),
        ((one, files, i) for one, files in zip(searches, of_each, strict=True) for i in range(n_shares)),
    )
    urls = [url if n_bytes else "" for url, n_bytes in found]
    return [[url for url in urls[i * n_shares : (i + 1) * n_shares] if url] for i in range(len(names))]


def groups_of(n_rows: Sequence[int], most: int) -> list[range]:
    """Neighbouring units of at most so many rows together, or of one unit that has more."""
    found, start, rows = [], 0, 0
    for unit, n in enumerate(n_rows):
        if rows and rows + n > most:
            found.append(range(start, unit))
            start, rows = unit, 0
        rows += n
    return [*found, range(start, len(n_rows))]


def scatter(layout: Layout, n_shares: int, work: tuple[Search, int, Any, str]) -> str:
    """Writes the records of a group, by share, unless they are there; returns the file."""
    one, number, item, version = work
    url = layout.scattered(one.name, number, _hash([str(n_shares), version]))
    if not storage.exists(url):
        records, hashes = one.records(item)
        shares = (hashes % np.uint64(n_shares)).astype(np.int64)
        pieces.write(url, *pieces.cut(records, shares, n_shares))
    return url


def find(layout: Layout, work: tuple[Search, list[str], int]) -> tuple[str, int]:
    """Writes what is found in a share, unless it is there; returns the file, and how many bytes are found."""
    one, scattered, share = work
    url = layout.found(one.name, share, _hash(scattered))
    if not storage.exists(url):
        records = [np.zeros(0, one.kind), *(pieces.read(file, share, one.kind) for file in scattered)]
        pieces.write(url, *one.find(np.concatenate(records)))
    return url, pieces.n_bytes(url)


def read(urls: Sequence[str], piece: int, kind: np.dtype[Any]) -> np.ndarray:
    """A piece of every file, together."""
    return np.concatenate([np.zeros(0, kind), *(pieces.read(url, piece, kind) for url in urls)])


def clear(layout: Layout) -> None:
    """Removes what the passes left."""
    names = [storage.join(layout.keys, name) for name in storage.names(layout.keys)]
    for _ in storage.map_threads(storage.remove, names):
        pass


def _hash(texts: Sequence[str]) -> str:
    """12 hex digits."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
