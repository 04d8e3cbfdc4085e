"""The first pass as a whole: units of the input -> indices -> the plan, and the counts of all captions.

Resumable unit by unit; what a unit leaves is a function of the unit and the settings, so nothing depends on who indexed
it when. The driver holds a record a unit and a row a part.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

import storage
from concept_pool.count import Counts
from pipeline import repeated_keys, repeats
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import DamagedPlan, Plan
from pipeline.dataset.units import UnitRecord
from pipeline.indexed import Indexed, parts_table, units_table
from pipeline.settings import BuildSettings
from pipeline.sources import Source, Unit
from pipeline.stages import index
from pipeline.standing import Standing, tell

log = logging.getLogger("regionpairs")

#: Tables of counts that one task merges.
MERGE_WIDTH = 64
_RECORD = re.compile(r"[0-9]{6,}\.json")


class Map(Protocol):
    """How a runner does many things: `function` of every item, results in order, some at once.

    slow: an item takes seconds of a CPU, so that processes pay.
    """

    def __call__(
        self, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False
    ) -> Iterator[Any]: ...


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
        n_rows, sha256 = [r.n_rows for r in found], [r.index_sha256 for r in found]
        found = _replaced(found, repeated_keys.mark(settings, layout, n_rows, sha256, run))
    if settings.duplicates.on or settings.filters.number("max_repeats"):
        n_rows, sha256 = [r.n_rows for r in found], [r.index_sha256 for r in found]
        found = _replaced(found, repeats.mark(settings, layout, n_rows, sha256, run))
    if not any(record.n_rows for record in found):
        raise ValueError("source: it holds no samples")
    plan = Plan.write(layout, units_table(units, found), parts_table(found))
    log.info("plan: %d samples in %d parts of %d units", plan.n_samples, len(plan.parts), len(found))
    return plan


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
    there = sorted(int(name[:-5]) for name in storage.names(layout.unit_records) if _RECORD.fullmatch(name))
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


def _replaced(found: list[Indexed], changed: Iterable[UnitRecord]) -> list[Indexed]:
    replaced = {record.unit: Indexed.of(record) for record in changed}
    return [replaced.get(record.unit, record) for record in found]


def _index_one(settings: BuildSettings, layout: Layout, work: tuple[int, Unit, int]) -> UnitRecord:
    return index.index_unit(settings, layout, *work)


def _read_record(layout: Layout, unit: int) -> tuple[int, UnitRecord | None]:
    """A unit and its record, which counts where the files that it speaks of are whole."""
    record = UnitRecord.read(layout, unit)
    return unit, record if record and record.is_whole(layout) else None


def _merge_one(layout: Layout, work: tuple[list[str], str]) -> str:
    return index.merge_counts(layout, *work)
