"""The build: claim > plan > concept pool > parts > manifest, the same for every runner.

Each step leaves a file that says it is done, so a build that was cut short anywhere goes on from there, and a finished
one is left alone.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import storage
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates, templates_hash
from pipeline import fingerprint, healing, own_pool, planning, sources
from pipeline.dataset import claim
from pipeline.dataset.claim import Refused
from pipeline.dataset.finish import finish, parts_to_do
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Plan
from pipeline.duplicates import find
from pipeline.progress import Incomplete
from pipeline.runner import Runner, embed, run_parts
from pipeline.settings import BuildSettings
from pipeline.standing import Standing, tell

if TYPE_CHECKING:
    from pipeline.sources import Source
    from pipeline.stages.chain import Job

__all__ = ["Incomplete", "Refused", "Runner", "build"]

log = logging.getLogger("regionpairs")

#: What stands behind the name of the dataset that the corpus pass reads.
REGIONS = "-regions"


def build(settings: BuildSettings, runner: Runner) -> dict[str, Any]:
    """Builds, or completes, the dataset at `settings.out`; returns its summary (docs/format.md).

    Raises Refused if the folder was made with something else, Incomplete if samples or parts were lost or too many
    rejected, ValueError for an input that cannot be used. Whatever was committed before stays committed.

    With label policy `corpus`, which needs every region before it can label one, there are two datasets: the regions at
    `settings.out` + `REGIONS`, under policy `caption`, then the one that was asked for. The first may go afterwards.
    """
    if settings.align.policy == "corpus":
        from pipeline.relabel import relabel

        first = regions_of(settings)
        build(first, runner)
        return relabel(first.out, settings, runner)
    from pipeline.stages import BUILD

    started = time.time()
    layout = Layout(storage.location(settings.out, "out", write=True))
    source = sources.load(settings.source)
    source.check()
    find.check(settings.duplicates)
    components = fingerprint.components(settings, source)
    with claim.held(layout) as token:
        prove = partial(_prove, settings, components, source, layout, runner)
        claim.settle(layout, components, settings, prove)
        claim.sweep(layout, started)
        resumed = storage.exists(layout.plan)
        plan = planning.make_plan(settings, source, layout, runner.map)
        record = _pool(settings, components, source, plan, runner, resumed)
        identity = fingerprint.identity(components, record)
        log.info("fingerprint %s, concept pool %s: %d concepts", *identity.values(), record["n_concepts"])
        todo = parts_to_do(settings, plan, identity, runner.map)
        healing.heal_units(settings, source, plan, todo, runner.map, resumed)
        job = _job(settings, layout, identity, token, source.root)
        run = run_parts(BUILD, settings, plan, todo, job, runner)
        storage.require_claim(layout.url, token)
        summary = finish(settings, plan, identity, run, runner.map)
    log.info("done in %.1f s", time.time() - started)
    return summary


def regions_of(settings: BuildSettings) -> BuildSettings:
    """The build that a build with policy `corpus` begins with."""
    form = settings.align.region_embeddings
    align = dataclasses.replace(
        settings.align, policy="caption", region_embeddings="fp16" if form == "none" else form
    )
    return dataclasses.replace(settings, out=settings.out.rstrip("/") + REGIONS, align=align)


def _job(settings: BuildSettings, layout: Layout, identity: dict[str, str], token: str, root: str) -> Job:
    from pipeline.stages.chain import Job

    return Job(settings, layout.url, identity, token, root)


def _prove(
    settings: BuildSettings, components: dict[str, Any], source: Source, layout: Layout, runner: Runner
) -> None:
    """Makes the pool of a dataset whose `fingerprint.json` is lost too. Raises where it is not its parts' (`own_pool`)."""
    if not _found(settings, components, layout):
        _pool(settings, components, source, Plan.committed(layout), runner, resumed=True)


def _found(settings: BuildSettings, components: dict[str, Any], layout: Layout) -> dict[str, Any] | None:
    return own_pool.found(layout, components, templates_hash(load_templates(settings.pool.templates)))


def _pool(
    settings: BuildSettings,
    components: dict[str, Any],
    source: Source,
    plan: Plan,
    runner: Runner,
    resumed: bool,
) -> dict[str, Any]:
    """The record of the pool and its text embeddings: those that are there, or new ones. Raises DamagedDataset where parts
    are committed that were made with others; then the pool that is there stays."""
    layout = plan.layout
    if record := _found(settings, components, layout):
        log.info("concept pool: found")
        return record
    started = time.perf_counter()
    tell(Standing("concept pool"))
    if settings.pool.path:
        pool = ConceptPool.load(storage.absolute(settings.pool.path))
    else:
        if resumed:
            healing.heal_counts(settings, source, plan, runner.map)
        pool = ConceptPool.from_counts(planning.total_counts(layout, plan, runner.map), settings.pool)
    if not pool.names:
        raise ValueError(planning.why_no_concepts(settings, plan, runner.map))
    own_pool.check_pool(layout, pool.hash)
    with own_pool.kept(layout):
        pool.save(layout.pool)
        log.info("concept pool: %d concepts in %.1f s", len(pool.names), time.perf_counter() - started)
        started = time.perf_counter()
        tell(Standing("text embeddings"))
        record = own_pool.check(layout, components, runner.call(settings, embed, settings, layout))
    shape = (record["n_concepts"], record["dim"])
    log.info("text embeddings: %d x %d in %.1f s", *shape, time.perf_counter() - started)
    return record
