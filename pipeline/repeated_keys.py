"""Source keys that an earlier unit has, found by hash partition: nobody holds all keys, and each is read twice.

Three passes over files below `plan/keys/`, a task an item:

    scatter   a group of units -> the digests of its usable keys, a piece for each share of all digests
    find      a share of the digests -> the rows that repeat a key, a piece for each group
    gather    a group -> the rows of each of its units that are to be marked

Groups and shares are about `KEYS_A_TASK` keys each, which bounds a task's memory. A file's name says what it was made of,
so a pass that was cut short goes on; all of them go when the rows are marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import storage
from pipeline import pieces
from pipeline.dataset.layout import Layout
from pipeline.duplicates.settings import REASONS
from pipeline.settings import BuildSettings
from pipeline.stages import index
from pipeline.stages.index import UnitRecord
from pipeline.standing import Standing, tell

#: Keys of a task; it holds some 200 bytes for each (benchmarks/repeated_keys.py).
KEYS_A_TASK = 1 << 20
#: What is said of rows after keys were compared: their keys count.
LATER = (*REASONS, "frequent_caption")
#: A digest in two halves, and whose it is.
KEYS = np.dtype([("high", "<u8"), ("low", "<u8"), ("unit", "<i4"), ("row", "<i4")])
#: A row that repeats a key.
MARKS = np.dtype([("unit", "<i4"), ("row", "<i4")])
Map = Callable[..., Iterator[Any]]


def mark(
    settings: BuildSettings,
    layout: Layout,
    n_rows: Sequence[int],
    index_sha256: Sequence[str],
    run: Map,
    only: Collection[int] | None = None,
) -> Iterator[UnitRecord]:
    """Marks every usable row whose key an earlier unit has; yields the records of the units that changed.

    n_rows, index_sha256: of each unit's index. only: units that may be marked (all).
    """
    if len(n_rows) > 1:
        tell(Standing("duplicate keys"))
        found = rows_to_mark(layout, n_rows, index_sha256, run)
        work = (one for one in found if only is None or one[0] in only)
        yield from run(partial(_mark_one, settings, layout), work, slow=True)
        for name in storage.names(layout.keys):
            storage.remove(storage.join(layout.keys, name))


def rows_to_mark(
    layout: Layout, n_rows: Sequence[int], index_sha256: Sequence[str], run: Map
) -> Iterator[tuple[int, np.ndarray]]:
    """Unit and rows (int32, rising) of every unit that repeats keys of earlier ones, by rising unit."""
    n_shares = 1 + sum(n_rows) // KEYS_A_TASK
    units = groups_of(n_rows)
    work = [(group, own, [index_sha256[unit] for unit in own]) for group, own in enumerate(units)]
    scattered = list(run(partial(scatter, layout, n_shares), work))
    found = list(run(partial(find, layout, units, scattered), range(n_shares)))
    if marks := [url for url, n in found if n]:
        for gathered in run(partial(gather, marks), range(len(units))):
            yield from gathered


def groups_of(n_rows: Sequence[int]) -> list[range]:
    """Neighbouring units of `KEYS_A_TASK` rows together, or of one unit that has more."""
    found, start, rows = [], 0, 0
    for unit, n in enumerate(n_rows):
        if rows and rows + n > KEYS_A_TASK:
            found.append(range(start, unit))
            start, rows = unit, 0
        rows += n
    return [*found, range(start, len(n_rows))]


def scatter(layout: Layout, n_shares: int, work: tuple[int, range, list[str]]) -> str:
    """Writes the keys of a group of units, by share, unless they are there; returns the file."""
    number, units, versions = work
    url = layout.scattered_keys(number, _hash([str(n_shares), *versions]))
    if not storage.exists(url):
        keys = np.concatenate([np.zeros(0, KEYS), *(_keys_of(layout, unit) for unit in units)])
        shares = (keys["high"] % np.uint64(n_shares)).astype(np.int64)
        pieces.write(url, *pieces.cut(keys, shares, n_shares))
    return url


def _keys_of(layout: Layout, unit: int) -> np.ndarray:
    """`KEYS` of a unit's usable rows."""
    table = storage.read_table(layout.unit_index(unit), ("source_key", "problem")).to_pydict()
    rows = [
        row
        for row, problem in enumerate(table["problem"])
        if not problem or problem.partition(":")[0] in LATER
    ]
    digests = b"".join(_digest(table["source_key"][row]) for row in rows)
    keys = np.empty(len(rows), KEYS)
    keys["high"], keys["low"] = np.frombuffer(digests, "<u8").reshape(-1, 2).T
    keys["unit"], keys["row"] = unit, rows
    return keys


def _digest(source_key: str) -> bytes:
    return hashlib.blake2b(source_key.encode(), digest_size=16).digest()


def find(layout: Layout, groups: list[range], scattered: list[str], share: int) -> tuple[str, int]:
    """Writes the rows that repeat a key of a share, by group, unless they are there; returns the file and how many."""
    url = layout.repeated_keys(share, _hash(scattered))
    if not storage.exists(url):
        keys = np.concatenate([pieces.read(file, share, KEYS) for file in scattered])
        marks = repeated(keys)
        pieces.write(url, marks, np.searchsorted(marks["unit"], [units.stop for units in groups]))
    return url, (storage.size(url) - pieces.head_bytes(len(groups))) // MARKS.itemsize


def repeated(keys: np.ndarray) -> np.ndarray:
    """`MARKS` of all but the first of equal digests, in plan order. keys: `KEYS` in plan order."""
    order = np.lexsort((keys["low"], keys["high"]))  # stable: equal ones stay in plan order
    again = np.ones(len(keys), bool)
    again[:1] = False
    for half in ("high", "low"):
        values = keys[half][order]
        again[1:] &= values[1:] == values[:-1]
    later = keys[np.sort(order[again])]
    marks = np.empty(len(later), MARKS)
    marks["unit"], marks["row"] = later["unit"], later["row"]
    return marks


def gather(marks: list[str], group: int) -> list[tuple[int, np.ndarray]]:
    """Unit and rows, int32 and rising, of every unit of a group that has rows to mark."""
    found = np.sort(np.concatenate([pieces.read(url, group, MARKS) for url in marks]))
    if not len(found):
        return []
    units, starts = np.unique(found["unit"], return_index=True)
    return list(zip(units.tolist(), np.split(found["row"], starts[1:]), strict=True))


def _mark_one(settings: BuildSettings, layout: Layout, work: tuple[int, np.ndarray]) -> UnitRecord:
    unit, rows = work
    return index.mark_unit(settings, layout, unit, rows.tolist())


def _hash(texts: Sequence[str]) -> str:
    """12 hex digits."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
