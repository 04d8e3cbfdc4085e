"""Rules that need the whole corpus, between index and plan: captions that too many samples have, then duplicates.

Each leaves a table first and marks the units' indices by it, so that a pass that was cut short, and a unit that is
indexed anew, give the same rows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import storage
from pipeline import partition
from pipeline.dataset import records
from pipeline.dataset.layout import Layout
from pipeline.dataset.units import UnitRecord
from pipeline.duplicates.find import find
from pipeline.duplicates.held_out import digest_of_caption
from pipeline.filters import drop_captions
from pipeline.partition import Map, Search
from pipeline.settings import BuildSettings
from pipeline.stages import index
from pipeline.standing import Standing, tell

log = logging.getLogger("regionpairs")

#: Rows of a task that counts captions; it holds some 50 bytes for each caption.
ROWS_A_TASK = 1 << 20
FREQUENT = pa.schema([pa.field("caption", pa.uint64()), pa.field("n_samples", pa.int64())])
#: A caption's digest, and how many samples have it.
COUNTS = np.dtype([("caption", "<u8"), ("n_samples", "<i8")])


def mark(
    settings: BuildSettings, layout: Layout, n_rows: Sequence[int], index_sha256: Sequence[str], run: Map
) -> list[UnitRecord]:
    """Marks the rows that repeat others; returns the records of the units that changed.

    n_rows, index_sha256: of each unit's index.
    """
    changed: dict[int, UnitRecord] = {}
    units = range(len(n_rows))
    if settings.filters.number("max_repeats"):
        version = _count(settings, layout, n_rows, index_sha256, run)
        for record in run(partial(_mark_frequent, settings, layout, version), units, slow=True):
            if record is not None:
                changed[record.unit] = record
    sha256 = [changed[unit].index_sha256 if unit in changed else index_sha256[unit] for unit in units]
    if settings.duplicates.on and find(settings, layout, n_rows, sha256, run):
        marked = _units_of(layout)
        for record in run(partial(_mark_duplicates, settings, layout), marked, slow=True):
            changed[record.unit] = record
    partition.clear(layout)  # also what a run left that was cut short once its table was there
    return list(changed.values())


def mark_again(settings: BuildSettings, layout: Layout, unit: int) -> UnitRecord | None:
    """Marks one unit that was indexed anew, by the tables that are there; None if nothing is to be marked."""
    record = None
    if settings.filters.number("max_repeats"):
        record = _mark_frequent(settings, layout, storage.sha256(layout.frequent), unit)
    if settings.duplicates.on and unit in _units_of(layout):
        record = _mark_duplicates(settings, layout, unit)
    return record


def forget(layout: Layout, n_units: int) -> None:
    """Removes both tables and the records of units that were marked by them: the units are indexed anew."""
    if storage.exists(layout.frequent) or storage.exists(layout.duplicates):
        for unit in range(n_units):
            storage.remove(layout.unit_record(unit))
    storage.remove(layout.frequent)
    storage.remove(layout.duplicates)
    partition.clear(layout)


def _count(
    settings: BuildSettings, layout: Layout, n_rows: Sequence[int], index_sha256: Sequence[str], run: Map
) -> str:
    """Writes the table of frequent captions, unless it is there; returns its sha256."""
    if not storage.exists(layout.frequent):
        tell(Standing("repeated captions"))
        most = int(settings.filters.number("max_repeats"))
        table = frequent_captions(layout, n_rows, index_sha256, most, run)
        with storage.atomic_write(layout.frequent) as target:
            pq.write_table(table, target)
        log.info("captions of more than %d samples: %d", most, table.num_rows)
    return storage.sha256(layout.frequent)


def frequent_captions(
    layout: Layout, n_rows: Sequence[int], index_sha256: Sequence[str], most: int, run: Map
) -> pa.Table:
    """`FREQUENT`, by rising digest: captions of more than `most` samples. A sample that has a caption twice counts once."""
    groups = partition.groups_of(n_rows, ROWS_A_TASK)
    versions = ["\n".join(index_sha256[unit] for unit in units) for units in groups]
    n_shares = 1 + sum(n_rows) // ROWS_A_TASK
    one = Search(f"captions-{most}", COUNTS, partial(_counts_of, layout), partial(_more_than, most))
    (urls,) = partition.search(layout, [one], groups, versions, n_shares, run)
    counts = np.sort(partition.read(urls, 0, COUNTS))
    return pa.table({name: counts[name] for name in FREQUENT.names}, schema=FREQUENT)


def _counts_of(layout: Layout, units: range) -> tuple[np.ndarray, np.ndarray]:
    """`COUNTS` of the captions of a group of units, and what they meet by."""
    digests = [np.zeros(0, np.uint64), *(_digests_of(layout, unit)[0] for unit in units)]
    captions, n_samples = np.unique(np.concatenate(digests), return_counts=True)
    counts = np.empty(len(captions), COUNTS)
    counts["caption"], counts["n_samples"] = captions, n_samples
    return counts, captions


def _more_than(most: int, counts: np.ndarray) -> tuple[np.ndarray, list[int]]:
    captions, at = np.unique(counts["caption"], return_inverse=True)
    found = np.zeros(len(captions), COUNTS)
    found["caption"] = captions
    np.add.at(found["n_samples"], at, counts["n_samples"])
    found = found[found["n_samples"] > most]
    return found, [len(found)]


def _digests_of(layout: Layout, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """The captions of a unit's usable rows, each once a row: uint64 [M], and int64 [M], whose they are."""
    table = storage.read_table(layout.unit_index(unit), ["captions", "problem"]).to_pylist()
    own = [{digest_of_caption(c) for c in row["captions"]} if not row["problem"] else set() for row in table]
    digests = np.frombuffer(b"".join(digest for some in own for digest in some), ">u8").astype(np.uint64)
    return digests, np.repeat(np.arange(len(own)), [len(some) for some in own])


def _number(caption: str) -> int:
    return int.from_bytes(digest_of_caption(caption), "big")


@lru_cache(maxsize=1)
def _frequent(url: str, version: str) -> np.ndarray:
    """The frequent captions, uint64, rising: read once a process. version: sha256 of the table."""
    return storage.read_table(url, ["caption"])["caption"].to_numpy()


def _mark_frequent(settings: BuildSettings, layout: Layout, version: str, unit: int) -> UnitRecord | None:
    digests, rows = _digests_of(layout, unit)
    listed = _frequent(layout.frequent, version)
    are = np.append(listed, 0)[np.searchsorted(listed, digests)] == digests if len(listed) else digests < 0
    if not are.any():
        return None
    hit, frequent = np.unique(rows[are]).tolist(), set(digests[are].tolist())
    most = int(settings.filters.number("max_repeats"))

    def change(rows: list[dict[str, Any]]) -> None:
        for number in hit:
            drop_captions(
                rows[number],
                lambda caption: _number(caption) in frequent,
                f"frequent_caption: more than {most} samples have it",
            )

    return index.change_unit(settings, layout, unit, change)


def _units_of(layout: Layout) -> list[int]:
    """The units that have duplicates."""
    return sorted(pc.unique(storage.read_table(layout.duplicates, ["unit"])["unit"]).to_pylist())


def _mark_duplicates(settings: BuildSettings, layout: Layout, unit: int) -> UnitRecord:
    found: list[dict[str, Any]] = []
    with storage.open_parquet(layout.duplicates) as file:
        for number in range(file.num_row_groups):
            if _may_hold(file.metadata.row_group(number), unit):
                group = file.read_row_group(number)
                found += group.filter(pc.equal(group["unit"], unit)).to_pylist()

    def change(rows: list[dict[str, Any]]) -> None:
        dropped: dict[int, dict[str, str]] = {}
        for one in found:
            if one["caption"]:
                dropped.setdefault(one["row"], {})[one["caption"]] = one["kept"]
            else:
                rows[one["row"]]["problem"] = problem_of(one)
        for number, captions in dropped.items():
            first = next(iter(captions.values()))
            drop_captions(rows[number], captions.__contains__, f"duplicate_pair: {_shown(first)} has both")

    return index.change_unit(settings, layout, unit, change)


def _may_hold(group: pq.RowGroupMetaData, unit: int) -> bool:
    """Whether the rows of a unit may be in a row group: the table is sorted by unit."""
    column = group.column(records.DUPLICATES.get_field_index("unit"))
    return not column.is_stats_set or column.statistics.min <= unit <= column.statistics.max


def problem_of(row: dict[str, Any]) -> str:
    """What the plan says of a sample that went. row: of `records.DUPLICATES`."""
    kept, distance = _shown(row["kept"]), row["distance"]
    apart = f", {distance} bits apart" if row["reason"] != "duplicate_image" else ""
    return f"{row['reason']}: {kept}{apart}"


def _shown(key: str) -> str:
    return key[:200]
