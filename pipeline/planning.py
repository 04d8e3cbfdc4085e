"""The first pass as a whole: units of the input -> indices -> the plan, and the counts of all captions.

Resumable unit by unit; what a unit leaves is a function of the unit and the settings, so nothing depends on who indexed
it when. The driver holds a record a unit and a row a part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

import storage
from concept_pool.count import Counts
from pipeline import repeats
from pipeline.dataset import records
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import ROW_GROUP, DamagedPlan, Parts, Plan
from pipeline.settings import BuildSettings
from pipeline.sources import Source, Unit
from pipeline.stages import index
from pipeline.stages.index import UnitRecord
from pipeline.standing import Standing, tell

log = logging.getLogger("regionpairs")

#: Keys that one task holds in memory to find duplicates across units.
KEYS_A_TASK = 4_000_000
#: Tables of counts that one task merges.
MERGE_WIDTH = 64


class Map(Protocol):
    """How a runner does many things: `function` of every item, results in order, some at once.

    slow: an item takes seconds of a CPU, so that processes pay.
    """

    def __call__(
        self, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False
    ) -> Iterator[Any]: ...


#: What a driver keeps of a part until the plan is written.
_PART = np.dtype([("content", "S12"), ("n_rows", "i8"), ("n_samples", "i8")])


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a driver keeps of a unit's record: numbers, not objects. parts: [P] of `_PART`."""

    unit: int
    n_rows: int
    n_samples: int
    index_sha256: str
    parts: np.ndarray

    @staticmethod
    def of(record: UnitRecord) -> Indexed:
        parts = np.array([tuple(part) for part in record.parts], _PART)
        return Indexed(record.unit, record.n_rows, record.n_samples, record.index_sha256, parts)


def make_plan(settings: BuildSettings, source: Source, layout: Layout, run: Map) -> Plan:
    """The plan that is there, or a new one. Raises ValueError for an input without samples."""
    try:
        plan = Plan.read(layout)
        log.info("plan: found, %d samples in %d parts", plan.n_samples, len(plan.parts))
        return plan
    except FileNotFoundError:
        pass
    except DamagedPlan as e:
        log.warning("%s; the plan is made anew", e)
        repeats.forget(layout, len(source.units()))
    units = source.units()
    found = _index(settings, layout, units, run)
    if not source.unique_keys:
        found = _mark_duplicates(settings, layout, found, run)
    if settings.duplicates.on or settings.filters.number("max_repeats"):
        changed = repeats.mark(settings, layout, [record.n_rows for record in found], run)
        replaced = {record.unit: Indexed.of(record) for record in changed}
        found = [replaced.get(record.unit, record) for record in found]
    if not any(record.n_rows for record in found):
        raise ValueError("source: it holds no samples")
    plan = Plan.write(layout, _units_table(units, found), _parts_table(found))
    log.info("plan: %d samples in %d parts of %d units", plan.n_samples, len(plan.parts), len(found))
    return plan


def heal_units(
    settings: BuildSettings, source: Source, plan: Plan, parts: Parts, run: Map, resumed: bool = False
) -> None:
    """Indexes anew every unit of these parts whose index is missing or damaged or, in a resumed build, whose file has
    another entity tag or time than when it was planned. Raises ValueError if the input changed, and leaves the plan.

    recheck bytes: an index that no part to do needs is looked at too, since `verify` would miss it.
    """
    needed = parts.units()
    wanted = plan.parts.units() if settings.recheck == "bytes" and resumed else needed
    damaged = [unit for unit, bad in run(partial(_is_damaged, plan.layout), wanted.items()) if bad]
    units = source.units() if damaged or (resumed and needed) else []
    was = plan.units.column("version").to_pylist()
    touched = []
    if resumed and not settings.source.limit:
        touched = [n for n in needed if n not in damaged and n < len(units) and units[n].version != was[n]]
    if not damaged and not touched:
        return
    log.warning(
        "plan: %d units have a damaged index, %d another time of change; they are indexed anew",
        len(damaged),
        len(touched),
    )
    kept = {
        url: storage.read_bytes(url)
        for n in touched
        for url in (plan.layout.unit_index(n), plan.layout.unit_counts(n), plan.layout.unit_record(n))
        if storage.exists(url)
    }
    damaged = sorted([*damaged, *touched])
    again = list(run(partial(_index_one, settings, plan.layout), [(n, units[n], 0) for n in damaged]))
    if not source.unique_keys:
        numbers = list(range(len(units)))
        marks = index.duplicates_across(plan.layout, numbers, 0, 1)
        again = [
            index.mark_unit(settings, plan.layout, r.unit, marks[r.unit]) if r.unit in marks else r
            for r in again
        ]
    again = [repeats.mark_again(settings, plan.layout, record.unit) or record for record in again]
    for record in again:
        if record.index_sha256 != wanted[record.unit]:
            for url, data in kept.items():
                storage.write_bytes(url, data)
            raise ValueError(
                f"source: unit {record.unit} is not what was planned; use another folder for the new input"
            )


def total_counts(layout: Layout, plan: Plan, run: Map) -> Counts:
    """The counts of all units, merged as a tree of tasks."""
    urls = [layout.unit_counts(unit) for unit in range(plan.units.num_rows)]
    level = 0
    while len(urls) > MERGE_WIDTH:
        groups = [urls[i : i + MERGE_WIDTH] for i in range(0, len(urls), MERGE_WIDTH)]
        work = [(group, layout.merged_counts(level, i)) for i, group in enumerate(groups)]
        urls, level = list(run(partial(_merge_one, layout), work)), level + 1
    total = Counts()
    for url in urls:
        total.merge(Counts.from_table(storage.read_table(url)))
    return total


def why_no_concepts(settings: BuildSettings, plan: Plan, run: Map) -> str:
    """One line for a corpus without a single concept: too few captions that agree, or no usable sample at all."""
    problems: dict[str, tuple[int, str]] = {}
    n_usable = 0
    for usable, found in run(partial(_problems, plan.layout), range(plan.units.num_rows)):
        n_usable += usable
        for reason, (n, example) in found.items():
            problems[reason] = (problems.get(reason, (0, ""))[0] + n, problems.get(reason, (0, example))[1])
    listed = "; ".join(f"{n} {reason}, e.g. {example}" for reason, (n, example) in sorted(problems.items()))
    if not n_usable:
        return f"source: none of its {plan.n_samples} samples can be used: {listed}"
    least = settings.pool.min_count
    message = (
        f"pool.min_count: no concept is named by {least} images or more; use a smaller value or more captions"
    )
    return message + (f" (and of {plan.n_samples} samples {listed})" if listed else "")


def _problems(layout: Layout, unit: int) -> tuple[int, dict[str, tuple[int, str]]]:
    """Usable samples of a unit, and reason -> how many it costs and an example."""
    table = storage.read_table(layout.unit_index(unit), ["source_key", "problem", "n_samples"])
    n_usable = 0
    found: dict[str, tuple[int, str]] = {}
    for row in table.to_pylist():
        reason = row["problem"].partition(": ")[0]
        if not reason:
            n_usable += 1
            continue
        n, example = found.get(reason, (0, row["source_key"]))
        found[reason] = (n + row["n_samples"], example)
    return n_usable, found


def _index(settings: BuildSettings, layout: Layout, units: list[Unit], run: Map) -> list[Indexed]:
    there = sorted(
        int(name.split(".")[0]) for name in storage.names(layout.unit_records) if name[0].isdigit()
    )
    known = run(partial(_read_record, layout), [n for n in there if n < len(units)])
    found = {number: Indexed.of(record) for number, record in known if record is not None}
    if found:
        log.info("index: %d of %d units are there", len(found), len(units))
    if settings.source.limit:
        return list(_index_up_to(settings, layout, units, found))
    todo = ((number, unit, 0) for number, unit in enumerate(units) if number not in found)
    n_todo = len(units) - len(found)
    n_samples = 0
    if n_todo:
        tell(Standing("index", "units", 0, n_todo))
    indexed: dict[int, Indexed] = {}
    for done, record in enumerate(run(partial(_index_one, settings, layout), todo, slow=True), start=1):
        indexed[record.unit] = Indexed.of(record)
        n_samples += record.n_samples
        tell(Standing("index", "units", done, n_todo, n_samples))
    return [found.get(number) or indexed[number] for number in range(len(units))]


def _index_up_to(
    settings: BuildSettings, layout: Layout, units: list[Unit], found: dict[int, Indexed]
) -> Iterator[Indexed]:
    """The first units, until `source.limit` rows are together: one after the other, since each limits the next."""
    left = settings.source.limit
    for number, unit in enumerate(units):
        tell(Standing("index up to source.limit", n_samples=settings.source.limit - left))
        record = found.get(number) or Indexed.of(index.index_unit(settings, layout, number, unit, left))
        yield record
        left -= record.n_rows
        if left <= 0:
            return


def _mark_duplicates(
    settings: BuildSettings, layout: Layout, found: list[Indexed], run: Map
) -> list[Indexed]:
    """Marks keys that an earlier unit has; hash shares of the keys are looked at as tasks."""
    if len(found) < 2:
        return found
    tell(Standing("duplicate keys"))
    n_shares = 1 + sum(record.n_rows for record in found) // KEYS_A_TASK
    numbers = [record.unit for record in found]
    marks: dict[int, list[int]] = {}
    for share in run(partial(_duplicates_of, layout, numbers, n_shares), range(n_shares)):
        for unit, rows in share.items():
            marks.setdefault(unit, []).extend(rows)
    work = sorted((unit, sorted(rows)) for unit, rows in marks.items())
    again = run(partial(_mark_one, settings, layout), work, slow=True)
    replaced = {record.unit: Indexed.of(record) for record in again}
    return [replaced.get(record.unit, record) for record in found]


def _units_table(units: list[Unit], found: list[Indexed]) -> pa.Table:
    """`records.UNITS`, in columns: there may be a million units."""
    known = {f.name for f in fields(Unit)}
    return pa.Table.from_arrays(
        [
            pa.array((getattr(units[r.unit] if f.name in known else r, f.name) for r in found), f.type)
            for f in records.UNITS
        ],
        schema=records.UNITS,
    )


def _parts_table(found: list[Indexed]) -> pa.Table:
    """`records.PARTS`; Python objects of a few thousand parts at a time."""
    ends = np.cumsum([len(record.parts) for record in found])
    tables, start = [], 0
    for stop, end in enumerate(ends.tolist(), start=1):
        if stop == len(found) or end // ROW_GROUP > (ends[start - 1] if start else 0) // ROW_GROUP:
            tables.append(_parts_of(found[start:stop], end))
            start = stop
    return pa.concat_tables(tables)


def _parts_of(found: list[Indexed], end: int) -> pa.Table:
    """The parts of some neighbouring units; `end`: the number of the part after the last one."""
    parts = np.concatenate([record.parts for record in found])
    sizes = [len(record.parts) for record in found]
    of_unit = np.repeat(np.arange(len(found)), sizes)
    names = [
        f"{number:06d}-{content.decode()}"
        for number, content in enumerate(parts["content"].tolist(), end - len(parts))
    ]
    hashes = pa.array([record.index_sha256 for record in found])
    columns = [
        pa.array(names),
        np.array([record.unit for record in found], np.int32)[of_unit],
        np.concatenate([np.arange(n, dtype=np.int32) for n in sizes]),
        hashes.take(pa.array(of_unit)),
        np.ascontiguousarray(parts["n_rows"]),
        np.ascontiguousarray(parts["n_samples"]),
    ]
    return pa.Table.from_arrays([pa.array(c) for c in columns], schema=records.PARTS)


def _index_one(settings: BuildSettings, layout: Layout, work: tuple[int, Unit, int]) -> UnitRecord:
    return index.index_unit(settings, layout, *work)


def _read_record(layout: Layout, unit: int) -> tuple[int, UnitRecord | None]:
    return unit, UnitRecord.read(layout, unit)


def _mark_one(settings: BuildSettings, layout: Layout, work: tuple[int, list[int]]) -> UnitRecord:
    return index.mark_unit(settings, layout, *work)


def _duplicates_of(layout: Layout, units: list[int], n_shares: int, share: int) -> dict[int, list[int]]:
    return index.duplicates_across(layout, units, share, n_shares)


def _merge_one(layout: Layout, work: tuple[list[str], str]) -> str:
    return index.merge_counts(layout, *work)


def _is_damaged(layout: Layout, work: tuple[int, str]) -> tuple[int, bool]:
    unit, sha256 = work
    try:
        return unit, storage.sha256(layout.unit_index(unit)) != sha256
    except FileNotFoundError:
        return unit, True
