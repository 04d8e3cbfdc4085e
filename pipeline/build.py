"""The build: plan > concept pool > parts > manifest, the same for every runner.

Each step leaves a file that says it is done, so a build that was cut short anywhere goes on from there, and a finished
one is left alone.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

import storage
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from pipeline import fingerprint, sources
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset import records, shards
from pipeline.dataset.plan import Part, Plan
from pipeline.fingerprint import Refused
from pipeline.settings import BuildSettings
from pipeline.stages import chain as stages

log = logging.getLogger("regionpairs")


class Incomplete(RuntimeError):
    """The dataset is not what it should be: samples lost, or more rejects than the budget."""


class Runner(Protocol):
    """How work is run. A runner decides where; never what."""

    def count(self, settings: BuildSettings, plan: Plan, parts: list[Part]) -> Counts:
        """`vocabulary.count_parts` over all parts, merged."""
        ...

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        """One call where the models run."""
        ...

    def run(self, job: stages.Job, parts: list[Part]) -> Iterator[dict[str, Any]]:
        """Every part through `stages.STAGES`; yields the manifest rows as they are committed, in any order."""
        ...


def build(settings: BuildSettings, runner: Runner) -> dict[str, Any]:
    """Builds, or completes, the dataset at `settings.out`; returns its summary (docs/format.md).

    Raises Refused if the folder was made with something else, Incomplete if samples were lost or too many rejected,
    ValueError for an input that cannot be used. Whatever was committed before stays committed.
    """
    stages.check_chain(stages.STAGES)
    started = time.time()
    out = storage.absolute(settings.out)
    source = sources.load(settings.source)
    components = _claim(settings, source, out)
    for folder in ("", "plan", "plan/mentions", "shards", "manifest", "concept_pool"):
        if swept := storage.sweep(storage.join(out, folder) if folder else out, older_than=started):
            log.info("swept %d unfinished files from %s", len(swept), folder or "the folder")
    plan = _plan(settings, source, out)
    record = _vocabulary(settings, plan, runner)
    identity = {
        "fingerprint": fingerprint.digest({"components": components, "embeddings": record}),
        "pool": record["pool"],
    }
    log.info("fingerprint %s, concept pool %s: %d concepts", *identity.values(), record["n_concepts"])
    todo = parts_to_do(settings, plan, identity)
    run = _run(settings, plan, todo, stages.Job(settings, out, identity), runner) if todo else None
    summary = finish(settings, plan, identity, run)
    log.info("done in %.1f s", time.time() - started)
    return summary


def _claim(settings: BuildSettings, source: sources.Source, out: str) -> dict[str, Any]:
    """Makes the folder ours, or checks that it is. A claim under which nothing was committed may change."""
    now = fingerprint.components(settings, source)
    url = storage.join(out, "fingerprint.json")
    files = storage.tree(out) if storage.exists(out) else {}
    if "fingerprint.json" in files:
        found = fingerprint.differences(json.loads(storage.read_bytes(url)), now)
        if not found:
            return now
        if any(name.startswith("manifest/") for name in files):
            raise Refused(found)
        log.info("settings changed before anything was committed; starting over (%s)", "; ".join(found))
        for name in files:
            storage.remove(storage.join(out, name))
    elif foreign := [name for name in sorted(files) if storage.TEMPORARY not in name]:
        raise Refused([f"out: {out} holds {len(foreign)} files that are no dataset, e.g. {foreign[0]}"])
    resolved = yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False)
    storage.write_bytes(storage.join(out, "settings.yaml"), resolved.encode())
    storage.write_bytes(url, json.dumps(now, indent=1).encode())
    return now


def _plan(settings: BuildSettings, source: sources.Source, out: str) -> Plan:
    if storage.exists(storage.join(out, "plan", "plan.json")):
        plan = Plan.read(out)
        log.info("plan: found, %d samples in %d parts", plan.n_samples, len(plan.parts))
    else:
        plan = Plan.write(source, settings.samples_per_shard, settings.source.limit, out)
        log.info("plan: %d samples in %d parts", plan.n_samples, len(plan.parts))
    return plan


def _vocabulary(settings: BuildSettings, plan: Plan, runner: Runner) -> dict[str, Any]:
    if record := vocabulary.embeddings_record(plan.out):
        log.info("concept pool: found")
        return record
    started = time.perf_counter()
    counts = runner.count(settings, plan, list(plan.parts))
    pool = ConceptPool.from_counts(counts, settings.pool)
    if not pool.names:
        raise ValueError(
            f"pool.min_count: no concept is named by {settings.pool.min_count} images or more; "
            "use a smaller value or more captions"
        )
    pool.save(storage.join(plan.out, vocabulary.FOLDER))
    log.info("concept pool: %d concepts in %.1f s", len(pool.names), time.perf_counter() - started)
    started = time.perf_counter()
    record = runner.call(settings, vocabulary.embed, settings, plan.out)
    log.info(
        "text embeddings: %d x %d in %.1f s",
        record["n_concepts"],
        record["dim"],
        time.perf_counter() - started,
    )
    return record


def parts_to_do(settings: BuildSettings, plan: Plan, identity: dict[str, str]) -> list[Part]:
    """The parts whose row is missing or is of another pool, or whose shard does not check out."""
    rows = shards.manifest_rows(plan.out)
    sizes = storage.listing(storage.join(plan.out, "shards"))
    todo, skipped = [], 0
    for part in plan.parts:
        row = rows.get(part.name)
        if row is None:
            todo.append(part)
            continue
        if row["fingerprint"] != identity["fingerprint"]:
            raise Refused(
                [f"shard {part.shard}: fingerprint was {row['fingerprint']}, is {identity['fingerprint']}"]
            )
        if why := shards.damage(plan.out, row, settings.recheck, sizes):
            log.warning("shard %s: %s; it is built anew", part.shard, why)
            todo.append(part)
        else:
            skipped += 1
    if skipped:
        log.info("skipped %d of %d parts that are committed and check out", skipped, len(plan.parts))
    return todo


def _run(
    settings: BuildSettings, plan: Plan, todo: list[Part], job: stages.Job, runner: Runner
) -> dict[str, Any]:
    """Runs the parts and logs a line a commit; stops early once the reject budget cannot be kept any more.

    Returns how the run went: seconds from its start (models still to be loaded) to its last commit, and rates over them.
    """
    started = time.perf_counter()
    n_images = n_regions = n_rejected = 0
    for n_parts, row in enumerate(runner.run(job, todo), start=1):
        n_images += row["n_samples"]
        n_regions += row["n_regions"]
        n_rejected += row["n_rejected"]
        if row["n_read"] != row["n_samples"] + row["n_rejected"]:
            raise Incomplete(f"part {row['part']}: {row['n_read']} read is not written + rejected")
        log.info(
            "[%d/%d %3.0f%%] %s: %d images, %d regions, %d pairs, %d rejected; %.1f images/s",
            n_parts,
            len(todo),
            100 * n_parts / len(todo),
            row["part"],
            row["n_samples"],
            row["n_regions"],
            row["n_pairs"],
            row["n_rejected"],
            n_images / (time.perf_counter() - started),
        )
        _check_budget(settings, n_rejected, plan.n_samples)
    wall_s = time.perf_counter() - started
    return {
        "runtime": settings.runtime,
        "n_parts_built": len(todo),
        "wall_s": round(wall_s, 2),
        "images_per_s": round(n_images / wall_s, 2),
        "regions_per_s": round(n_regions / wall_s, 1),
    }


def _check_budget(settings: BuildSettings, n_rejected: int, n_samples: int) -> None:
    if n_rejected > settings.reject_budget * n_samples:
        raise Incomplete(
            f"{n_rejected} of {n_samples} samples rejected, more than reject_budget {settings.reject_budget:g} allows; "
            "the reasons are in rejects.parquet or, before the end, in manifest/*.json"
        )


def finish(
    settings: BuildSettings, plan: Plan, identity: dict[str, str], run: dict[str, Any] | None
) -> dict[str, Any]:
    """Compares the manifest with the plan, writes the tables and the summary."""
    by_part = shards.manifest_rows(plan.out)
    if missing := [p.name for p in plan.parts if p.name not in by_part]:
        raise Incomplete(f"{len(missing)} of {len(plan.parts)} parts have no manifest row, e.g. {missing[0]}")
    rows = [by_part[p.name] for p in plan.parts]
    rejects = [r for row in rows for r in row["rejects"]]
    total = {
        k: sum(row[k] for row in rows)
        for k in ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs", "n_bytes")
    }
    if total["n_read"] != plan.n_samples or total["n_read"] != total["n_samples"] + total["n_rejected"]:
        raise Incomplete(f"{plan.n_samples} planned, {total}: they do not add up")
    seconds = {k: round(sum(r["seconds"].get(k, 0.0) for r in rows), 3) for k in ("read", "compute", "write")}
    summary = {
        **total,
        "n_shards": sum(bool(r["shard"]) for r in rows),
        "rejects_by_reason": dict(sorted(Counter(r["reason"] for r in rejects).items())),
        "stage_seconds": seconds,
        **identity,
    }
    _write_table(plan.out, "manifest.parquet", rows, shards.MANIFEST)
    _write_table(plan.out, "rejects.parquet", rejects, records.REJECTS)
    url = storage.join(plan.out, "summary.json")
    if run or not storage.exists(url):  # a build that found everything in place leaves the last run's figures
        document = {**summary, "last_run": run or {}}
        storage.write_bytes(url, json.dumps(document, indent=1).encode())
    _check_budget(settings, total["n_rejected"], plan.n_samples)
    return {**summary, "last_run": run or {"n_parts_built": 0}}


def _write_table(out: str, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Writes a parquet table unless it lies there already, byte for byte: a finished dataset is left alone."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{k: r[k] for k in schema.names} for r in rows], schema), buffer)
    url = storage.join(out, name)
    if not storage.exists(url) or storage.read_bytes(url) != buffer.getvalue():
        storage.write_bytes(url, buffer.getvalue())
