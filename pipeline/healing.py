"""Indices of units that were damaged, or whose file changed, made anew for a plan that is there."""

from __future__ import annotations

import logging
from functools import partial

import storage
from pipeline import repeated_keys, repeats
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts, Plan
from pipeline.dataset.put_back import put_back
from pipeline.dataset.units import UnitRecord, counts_fault
from pipeline.partition import Map
from pipeline.settings import BuildSettings
from pipeline.sources import Source, Unit
from pipeline.stages import index

log = logging.getLogger("regionpairs")


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
    with put_back(_planned(plan.layout, touched), ValueError):
        _index_again(settings, source, plan, sorted([*damaged, *touched]), wanted, run)


def _planned(layout: Layout, units: list[int]) -> list[str]:
    """What lies in the plan of these units."""
    return [
        url for n in units for url in (layout.unit_index(n), layout.unit_counts(n), layout.unit_record(n))
    ]


def _index_again(
    settings: BuildSettings, source: Source, plan: Plan, numbers: list[int], wanted: dict[int, str], run: Map
) -> None:
    """Indexes these units as the plan has them. wanted: the sha256 of each unit's index. Raises ValueError if one is
    another now."""
    units, n_rows, limit = source.units(), plan.units.column("n_rows").to_pylist(), settings.source.limit
    if gone := [n for n in numbers if n >= len(units)]:
        raise ValueError(_other(gone[0]))
    work = [(n, units[n], limit - sum(n_rows[:n]) if limit else 0) for n in numbers]
    again = list(run(partial(_index_one, settings, plan.layout), work))
    if not source.unique_keys:
        again = _mark_keys(settings, plan, again, run)
    again = [repeats.mark_again(settings, plan.layout, record.unit) or record for record in again]
    for record in again:
        if record.index_sha256 != wanted[record.unit]:
            raise ValueError(_other(record.unit))


def _other(unit: int) -> str:
    return f"source: unit {unit} is not what was planned; use another folder for the new input"


def heal_counts(settings: BuildSettings, source: Source, plan: Plan, run: Map) -> None:
    """Indexes anew every unit whose counts are missing or damaged, or that has no record which says that they are not: a
    pool is to be made of them. Raises ValueError if the input changed, and leaves the plan."""
    planned = list(enumerate(plan.units.column("index_sha256").to_pylist()))
    lost = [n for n, why in enumerate(run(partial(counts_fault, plan.layout), planned)) if why]
    if lost:
        log.warning("plan: %d units have no counts of their captions; they are indexed anew", len(lost))
        with put_back(_planned(plan.layout, lost), ValueError):
            _index_again(settings, source, plan, lost, dict(planned), run)


def _mark_keys(settings: BuildSettings, plan: Plan, again: list[UnitRecord], run: Map) -> list[UnitRecord]:
    """The records of units indexed anew, with the keys marked that an earlier unit has."""
    sha256 = plan.units.column("index_sha256").to_pylist()
    n_rows = plan.units.column("n_rows").to_pylist()
    for record in again:
        sha256[record.unit], n_rows[record.unit] = record.index_sha256, record.n_rows
    only = {record.unit for record in again}
    marked = repeated_keys.mark(settings, plan.layout, n_rows, sha256, run, only)
    changed = {record.unit: record for record in marked}
    return [changed.get(record.unit, record) for record in again]


def _index_one(settings: BuildSettings, layout: Layout, work: tuple[int, Unit, int]) -> UnitRecord:
    return index.index_unit(settings, layout, *work)


def _is_damaged(layout: Layout, work: tuple[int, str]) -> tuple[int, bool]:
    unit, sha256 = work
    try:
        return unit, storage.sha256(layout.unit_index(unit)) != sha256
    except FileNotFoundError:
        return unit, True
