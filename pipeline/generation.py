"""A new generation of a dataset: one with another's plan, committed part by part and resumed as a build is."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import storage
from pipeline import fingerprint, own_pool
from pipeline.dataset import claim, concepts
from pipeline.dataset.damage import DamagedDataset, by_its_maker
from pipeline.dataset.finish import finish, parts_to_do
from pipeline.dataset.layout import POOL_FILES, Layout
from pipeline.dataset.plan import Parts, Plan, other_files, unit_index_bytes
from pipeline.runner import Runner, run_parts
from pipeline.settings import BuildSettings

if TYPE_CHECKING:
    from pipeline.stages.chain import Job, Stage

log = logging.getLogger("regionpairs")


def make(
    source: Layout,
    settings: BuildSettings,
    components: dict[str, Any],
    stages: Sequence[type[Stage]],
    runner: Runner,
    options: Any,
    plan_of: Callable[[Layout], Plan],
    pool_of: Callable[[Layout, dict[str, Any]], dict[str, Any]],
    before: Callable[[Job, Parts], None] = lambda job, parts: None,
) -> dict[str, Any]:
    """Sends the parts of the dataset at `source` through `stages` to `settings.out`; returns the new dataset's summary.

    components: all that changes its bytes. plan_of, pool_of: see to it that a layout holds the plan, and the pool, which
    is the committed parts' own (`own_pool`) and whose record the second returns. before: what has to be done before the
    parts. Raises Refused, Incomplete.
    """
    from pipeline.stages.chain import Job

    started = time.time()
    layout = Layout(storage.location(settings.out, "out", write=True))
    components = json.loads(json.dumps(components))
    with claim.held(layout) as token:
        claim.settle(layout, components, settings, lambda: pool_of(layout, components))
        claim.sweep(layout, started)
        plan = plan_of(layout)
        identity = fingerprint.identity(components, pool_of(layout, components))
        todo = parts_to_do(settings, plan, identity, runner.map)
        job = Job(settings, layout.url, identity, token, dataset=source.url, options=options)
        before(job, plan.parts)
        run = run_parts(stages, settings, plan, todo, job, runner)
        storage.require_claim(layout.url, token)
        return finish(settings, plan, identity, run, runner.map)


def copied_plan(source: Layout, layout: Layout, runner: Runner) -> Plan:
    """The dataset's plan in the new folder: its tables and its units' indices; `plan.json` comes last."""
    copy = partial(_copy_index, source, layout)
    try:
        plan = Plan.read(layout)
    except (FileNotFoundError, ValueError):
        plan = Plan.committed(source)
    else:
        indices = _indices_of(plan)
        for _ in runner.map(copy, [indices[unit] for unit in broken_units(plan, runner)]):
            pass
        return plan
    pairs = [(source.units, layout.units), (source.parts, layout.parts)]
    pairs += [(url, layout.file(url.removeprefix(source.url + "/"))) for url in other_files(source)]
    for _ in runner.map(copy, _indices_of(plan)):
        pass
    for pair in [*pairs, (source.plan, layout.plan)]:
        copy_file(pair)
    return Plan.read(layout)


def broken_units(plan: Plan, runner: Runner) -> list[int]:
    """The units whose index is missing or not what was planned."""
    checked = runner.map(partial(_is_whole, plan.layout), _indices_of(plan))
    bad = [unit for unit, whole in enumerate(checked) if not whole]
    if bad:
        log.warning("plan: %d units have a missing or damaged index; they are made anew", len(bad))
    return bad


def _indices_of(plan: Plan) -> list[tuple[int, str]]:
    """The units and the sha256 of their indices."""
    return list(enumerate(plan.units.column("index_sha256").to_pylist()))


def _is_whole(layout: Layout, work: tuple[int, str]) -> bool:
    unit, sha256 = work
    try:
        return storage.sha256(layout.unit_index(unit)) == sha256
    except FileNotFoundError:
        return False


def _copy_index(source: Layout, layout: Layout, work: tuple[int, str]) -> None:
    """Copies a unit's index. Raises DamagedPlan where the source's is missing or has another sha256."""
    unit, sha256 = work
    storage.write_bytes(layout.unit_index(unit), unit_index_bytes(source, unit, sha256))


def copied_pool(
    source: Layout, layout: Layout, components: dict[str, Any], classifier: bool = False
) -> dict[str, Any]:
    """The dataset's pool in the new folder; returns its record, which comes last. components: of the new dataset.
    classifier: with the one that labelled it, where there is one. Raises DamagedDataset where the source has no whole
    pool, or another one than the parts in the new folder were made with."""
    if record := own_pool.found(layout, components):
        return record
    record = concepts.embeddings_record(source)
    if record is None:
        raise DamagedDataset(f"{source.pool} is damaged", by_its_maker(source.url))
    own_pool.check(layout, components, record)
    names = [source.pool_file(name) for name in POOL_FILES]
    for url in [*names, *([source.classifier] if classifier and storage.exists(source.classifier) else [])]:
        copy_file((url, layout.pool_file(url.rsplit("/", 1)[-1])))
    concepts.write_record(layout, record)
    return record


def copy_file(urls: tuple[str, str]) -> None:
    """Copies a small file, atomically."""
    storage.write_bytes(urls[1], storage.read_bytes(urls[0]))
