"""What is left to do, how it goes, and the end: the manifest against the plan, tables, summary."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import concepts, manifest, records, shards
from pipeline.dataset.claim import Refused
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts, Plan
from pipeline.settings import BuildSettings

log = logging.getLogger("regionpairs")

#: Manifest rows that are held in memory at once.
CHUNK = 4096
TOTALS = ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs", "n_bytes")
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class Incomplete(RuntimeError):
    """The dataset is not what it should be: samples or parts lost, or more rejects than the budget."""


def parts_to_do(settings: BuildSettings, plan: Plan, identity: dict[str, str], run: Map) -> Parts:
    """The parts whose row is missing or not whole, or whose shard does not check out. Raises Refused for rows of another
    fingerprint."""
    layout = plan.layout
    there = set(manifest.committed(layout))
    sizes = storage.listing(layout.file("shards"))
    names = plan.parts.names
    candidates = [(i, name) for i, name in enumerate(names) if name in there]
    check = partial(_check, layout, identity["fingerprint"], settings.recheck)
    good = set()
    for i, why in run(check, [(i, name, sizes.get(f"{name}.tar")) for i, name in candidates]):
        if why.startswith("fingerprint"):
            raise Refused([f"shard {names[i]}.tar: {why}"])
        if why:
            log.warning("shard %s.tar: %s; it is built anew", names[i], why)
        else:
            good.add(i)
    if good:
        log.info("skipped %d of %d parts that are committed and check out", len(good), len(names))
    return plan.parts.take([i for i in range(len(names)) if i not in good])


def _check(
    layout: Layout, fingerprint: str, recheck: str, work: tuple[int, str, int | None]
) -> tuple[int, str]:
    """Why the part of a row has to be built anew, or ""."""
    i, name, size = work
    row = manifest.read_row(layout, name)
    if row is None:
        return i, "its manifest row is not whole"
    if row["fingerprint"] != fingerprint:
        return i, f"fingerprint was {row['fingerprint']}, is {fingerprint}"
    return i, shards.damage(layout, row, recheck, size)


class Progress:
    """Counts of a run as its parts are done, a log line each; raises Incomplete once a budget cannot be kept any more."""

    def __init__(self, settings: BuildSettings, n_samples: int, n_parts: int):
        self._settings, self._n_samples, self._n_parts = settings, n_samples, n_parts
        self._started = time.perf_counter()
        self._done = 0
        self._counts: Counter[str] = Counter()
        self._rejects: list[dict[str, Any]] = []
        self._reasons: Counter[str] = Counter()

    def add(self, row: dict[str, Any], rejects: list[dict[str, Any]], seconds: dict[str, float]) -> None:
        """One committed part."""
        self._done += 1
        for name in TOTALS:
            self._counts[name] += row[name]
        self._reasons.update(_by_reason(rejects))
        log.info(
            "[%d/%d %3.0f%%] %s: %d images, %d regions, %d pairs, %d rejected; %.1f images/s",
            self._done,
            self._n_parts,
            100 * self._done / self._n_parts,
            row["part"],
            row["n_samples"],
            row["n_regions"],
            row["n_pairs"],
            row["n_rejected"],
            self._counts["n_samples"] / (time.perf_counter() - self._started),
        )
        check_budgets(self._settings, self._reasons, self._n_samples)

    def result(self, runtime: str) -> dict[str, Any]:
        """How the run went: seconds from its start (models still to be loaded) to its last commit, and rates over them."""
        wall_s = time.perf_counter() - self._started
        return {
            "runtime": runtime,
            "n_parts_built": self._n_parts,
            "wall_s": round(wall_s, 2),
            "images_per_s": round(self._counts["n_samples"] / wall_s, 2),
            "regions_per_s": round(self._counts["n_regions"] / wall_s, 1),
        }


def check_budgets(settings: BuildSettings, reasons: Counter[str], n_samples: int) -> None:
    """Raises Incomplete if more samples are rejected, or lost in damaged files, than the settings allow."""
    where = "the reasons are in rejects.parquet or, before the end, in manifest/*.json"
    listed = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common(5))
    if sum(reasons.values()) > settings.reject_budget * n_samples:
        raise Incomplete(
            f"{sum(reasons.values())} of {n_samples} samples rejected ({listed}), more than reject_budget "
            f"{settings.reject_budget:g} allows; {where}"
        )
    damaged = sum(n for reason, n in reasons.items() if reason.startswith("damaged"))
    if damaged > settings.damage_budget * n_samples:
        raise Incomplete(
            f"{damaged} of {n_samples} samples are lost in damaged files, more than damage_budget "
            f"{settings.damage_budget:g} allows; {where}"
        )


def _by_reason(rejects: Iterable[dict[str, Any]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for reject in rejects:
        counts[reject["reason"]] += reject["n_samples"]
    return counts


def finish(
    settings: BuildSettings, plan: Plan, identity: dict[str, str], run: dict[str, Any] | None
) -> dict[str, Any]:
    """Compares the manifest with the plan, writes the tables and the summary; returns the summary.

    Raises Incomplete for a part without a row, for counts that do not add up, for rows of another fingerprint or of no
    part, and if a budget is exceeded.
    """
    layout = plan.layout
    _check_folders(layout)
    sizes = storage.listing(layout.file("shards"))
    indices = storage.listing(layout.file("index"))
    totals: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    n_shards = 0
    tables = _Tables(layout)
    for part, row in zip(plan.parts, manifest.read_rows(layout, plan.parts.names), strict=True):
        if row is None:
            raise Incomplete(f"part {part.name} has no manifest row; the same command goes on")
        if row["n_read"] != part.n_samples or row["n_read"] != row["n_samples"] + row["n_rejected"]:
            raise Incomplete(f"part {part.name}: {part.n_samples} planned, its row does not add up to that")
        if row["fingerprint"] != identity["fingerprint"] or row["pool"] != identity["pool"]:
            raise Incomplete(
                f"part {part.name} was committed by another build meanwhile; run the command again"
            )
        if row["shard"] and (
            sizes.get(row["shard"]) != row["n_bytes"] or f"{part.name}.parquet" not in indices
        ):
            raise Incomplete(
                f"shard {row['shard']} or its index was lost meanwhile; the same command goes on"
            )
        totals.update({name: row[name] for name in TOTALS})
        seconds.update(row["seconds"])
        reasons.update(_by_reason(row["rejects"]))
        n_shards += bool(row["shard"])
        tables.add(row)
    sha256 = tables.write()
    summary = {
        **{name: totals[name] for name in TOTALS},
        "n_shards": n_shards,
        "rejects_by_reason": dict(sorted(reasons.items())),
        "stage_seconds": {name: round(value, 3) for name, value in sorted(seconds.items())},
        **identity,
        "sha256": {"settings.yaml": storage.sha256(layout.settings), **sha256},
    }
    if run or not storage.exists(
        layout.summary
    ):  # a build that found everything in place leaves the last run's figures
        write_summary(layout, {**summary, "last_run": run or {}})
    check_budgets(settings, reasons, plan.n_samples)
    return {**summary, "last_run": run or {"n_parts_built": 0}}


def _check_folders(layout: Layout) -> None:
    """Raises Incomplete if the plan or the concept pool was lost while the parts ran."""
    try:
        Plan.read(layout)
    except (FileNotFoundError, ValueError) as e:
        raise Incomplete(f"the plan was lost meanwhile ({e}); the same command goes on") from e
    if concepts.embeddings_record(layout) is None:
        raise Incomplete("the concept pool was lost meanwhile; the same command goes on")


def write_summary(layout: Layout, summary: dict[str, Any]) -> None:
    storage.write_bytes(layout.summary, json.dumps(summary, indent=1).encode())


class _Tables:
    """`manifest.parquet` and `rejects.parquet`, row by row; each is written unless it lies there already, byte for byte: a
    finished dataset is left alone."""

    def __init__(self, layout: Layout):
        self._layout = layout
        self._manifest = _Table(records.MANIFEST)
        self._rejects = _Table(records.REJECTS)

    def add(self, row: dict[str, Any]) -> None:
        self._manifest.add([row])
        self._rejects.add(row["rejects"])

    def write(self) -> dict[str, str]:
        """Writes what changed; file name -> sha256."""
        found = {}
        for url, table in ((self._layout.manifest, self._manifest), (self._layout.rejects, self._rejects)):
            data = table.close()
            found[url.rsplit("/", 1)[-1]] = sha256 = hashlib.sha256(data).hexdigest()
            if not storage.exists(url) or storage.sha256(url) != sha256:
                storage.write_bytes(url, data)
        return found


class _Table:
    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, schema)
        self._waiting: list[dict[str, Any]] = []

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._waiting += [{name: row[name] for name in self._schema.names} for row in rows]
        if len(self._waiting) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        for start in range(0, len(self._waiting), CHUNK):
            self._writer.write_table(pa.Table.from_pylist(self._waiting[start : start + CHUNK], self._schema))
        self._waiting = []

    def close(self) -> bytes:
        self._flush()
        self._writer.close()
        return self._sink.getvalue()
