"""Rules that need the whole corpus, between index and plan: captions that too many samples have, then duplicates.

Each leaves a table first and marks the units' indices by it, so that a pass that was cut short, and a unit that is
indexed anew, give the same rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import storage
from pipeline.dataset.layout import Layout
from pipeline.duplicates.find import find
from pipeline.duplicates.held_out import digest_of_caption
from pipeline.filters import drop_captions
from pipeline.settings import BuildSettings
from pipeline.stages import index
from pipeline.stages.index import UnitRecord
from pipeline.standing import Standing, tell

log = logging.getLogger("regionpairs")

#: Captions that one task counts.
CAPTIONS_A_TASK = 16_000_000
FREQUENT = pa.schema([pa.field("caption", pa.uint64()), pa.field("n_samples", pa.int64())])
Map = Callable[..., Iterator[Any]]


def mark(settings: BuildSettings, layout: Layout, n_rows: list[int], run: Map) -> list[UnitRecord]:
    """Marks the rows that repeat others; returns the records of the units that changed. n_rows: of each unit."""
    changed = {}
    units = range(len(n_rows))
    if settings.filters.number("max_repeats"):
        _count(settings, layout, n_rows, run)
        for record in run(partial(_mark_frequent, settings, layout), units, slow=True):
            if record is not None:
                changed[record.unit] = record
    if settings.duplicates.on and find(settings, layout, n_rows, run):
        marked = _units_of(layout)
        for record in run(partial(_mark_duplicates, settings, layout), marked, slow=True):
            changed[record.unit] = record
    return list(changed.values())


def mark_again(settings: BuildSettings, layout: Layout, unit: int) -> UnitRecord | None:
    """Marks one unit that was indexed anew, by the tables that are there; None if nothing is to be marked."""
    record = None
    if settings.filters.number("max_repeats"):
        record = _mark_frequent(settings, layout, unit)
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


def _count(settings: BuildSettings, layout: Layout, n_rows: list[int], run: Map) -> None:
    if storage.exists(layout.frequent):
        return
    tell(Standing("repeated captions"))
    n_shares = 1 + 2 * sum(n_rows) // CAPTIONS_A_TASK
    most = int(settings.filters.number("max_repeats"))
    found = list(run(partial(frequent_captions, layout, len(n_rows), most, n_shares), range(n_shares)))
    table = pa.concat_tables(found).sort_by("caption")
    with storage.atomic_write(layout.frequent) as target:
        pq.write_table(table, target)
    log.info("captions of more than %d samples: %d", most, table.num_rows)


def frequent_captions(layout: Layout, n_units: int, most: int, n_shares: int, share: int) -> pa.Table:
    """`FREQUENT`, of the captions of a share of all digests. A sample that has a caption twice counts once."""
    found: list[int] = []
    for unit in range(n_units):
        table = storage.read_table(layout.unit_index(unit), ["captions", "problem"])
        for row in table.to_pylist():
            if not row["problem"]:
                own = {_number(caption) for caption in row["captions"]}
                found += [n for n in own if n % n_shares == share]
    captions, counts = np.unique(np.array(found, np.uint64), return_counts=True)
    often = counts > most
    return pa.table({"caption": captions[often], "n_samples": counts[often]}, schema=FREQUENT)


def _number(caption: str) -> int:
    return int.from_bytes(digest_of_caption(caption), "big")


def _mark_frequent(settings: BuildSettings, layout: Layout, unit: int) -> UnitRecord | None:
    frequent = set(storage.read_table(layout.frequent, ["caption"])["caption"].to_pylist())
    table = storage.read_table(layout.unit_index(unit), ["captions", "problem"]).to_pylist()
    hit = {
        number
        for number, row in enumerate(table)
        if frequent and not row["problem"] and any(_number(c) in frequent for c in row["captions"])
    }
    if not hit:
        return None
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
    return sorted(set(storage.read_table(layout.duplicates, ["unit"])["unit"].to_pylist()))


def _mark_duplicates(settings: BuildSettings, layout: Layout, unit: int) -> UnitRecord:
    with storage.open_parquet(layout.duplicates) as file:
        found = [
            row
            for batch in file.iter_batches()
            for row in batch.filter(pc.equal(batch["unit"], unit)).to_pylist()
        ]

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


def problem_of(row: dict[str, Any]) -> str:
    """What the plan says of a sample that went. row: of `records.DUPLICATES`."""
    kept, distance = _shown(row["kept"]), row["distance"]
    apart = f", {distance} bits apart" if row["reason"] != "duplicate_image" else ""
    return f"{row['reason']}: {kept}{apart}"


def _shown(key: str) -> str:
    return key[:200]
