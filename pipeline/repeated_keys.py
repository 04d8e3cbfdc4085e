"""Source keys that an earlier unit has, found by hash partition (`partition.py`), and a third pass that hands them out:

gather   a group -> the rows of each of its units that are to be marked
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial

import numpy as np

import storage
from pipeline import partition
from pipeline.dataset.layout import Layout
from pipeline.dataset.units import UnitRecord
from pipeline.duplicates.settings import REASONS
from pipeline.partition import Map, Search
from pipeline.settings import BuildSettings
from pipeline.stages import index
from pipeline.standing import Standing, tell

#: Keys of a task; it holds some 200 bytes for each (benchmarks/repeated_keys.py).
KEYS_A_TASK = 1 << 20
#: What is said of rows after keys were compared: their keys count.
LATER = (*REASONS, "frequent_caption")
#: A digest in two halves, and whose it is.
KEYS = np.dtype([("high", "<u8"), ("low", "<u8"), ("unit", "<i4"), ("row", "<i4")])
#: A row that repeats a key.
MARKS = np.dtype([("unit", "<i4"), ("row", "<i4")])


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
        partition.clear(layout)


def rows_to_mark(
    layout: Layout, n_rows: Sequence[int], index_sha256: Sequence[str], run: Map
) -> Iterator[tuple[int, np.ndarray]]:
    """Unit and rows (int32, rising) of every unit that repeats keys of earlier ones, by rising unit."""
    n_shares = 1 + sum(n_rows) // KEYS_A_TASK
    units = partition.groups_of(n_rows, KEYS_A_TASK)
    versions = ["\n".join(index_sha256[unit] for unit in own) for own in units]
    keys = Search("keys", KEYS, partial(_keys_of, layout), partial(_repeated, [own.stop for own in units]))
    (marks,) = partition.search(layout, [keys], units, versions, n_shares, run)
    if marks:
        for gathered in run(partial(gather, marks), range(len(units))):
            yield from gathered


def _keys_of(layout: Layout, units: range) -> tuple[np.ndarray, np.ndarray]:
    """`KEYS` of the usable rows of a group of units, and what they meet by."""
    keys = np.concatenate([np.zeros(0, KEYS), *(_keys_of_one(layout, unit) for unit in units)])
    return keys, keys["high"]


def _keys_of_one(layout: Layout, unit: int) -> np.ndarray:
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


def _repeated(stops: list[int], keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`MARKS` of a share's keys, a piece a group; stops: where the groups' units end."""
    marks = repeated(keys)
    return marks, np.searchsorted(marks["unit"], stops)


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
    found = np.sort(partition.read(marks, group, MARKS))
    if not len(found):
        return []
    units, starts = np.unique(found["unit"], return_index=True)
    return list(zip(units.tolist(), np.split(found["row"], starts[1:]), strict=True))


def _mark_one(settings: BuildSettings, layout: Layout, work: tuple[int, np.ndarray]) -> UnitRecord:
    unit, rows = work
    return index.mark_unit(settings, layout, unit, rows.tolist())
