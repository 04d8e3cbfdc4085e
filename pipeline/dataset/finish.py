"""What is left to do, and the end: the manifest against the plan, tables, summary. The driver holds a few bytes a part."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import blocks, concepts, records
from pipeline.dataset.blocks import TOTALS
from pipeline.dataset.damage import DamagedDataset, by_repair
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts, Plan
from pipeline.progress import Incomplete, check_budgets
from pipeline.settings import BuildSettings

__all__ = ["Incomplete", "finish", "incompleteness", "parts_to_do", "write_summary"]

log = logging.getLogger("regionpairs")

#: Rows of a row group of `manifest.parquet` and `rejects.parquet`, at least.
ROW_GROUP = 4096
#: Damaged parts that are named in the log.
NAMED = 20
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def parts_to_do(settings: BuildSettings, plan: Plan, identity: dict[str, str], run: Map) -> Parts:
    """The parts whose row is missing or not whole, or whose shard does not check out. Raises DamagedDataset for rows
    of another fingerprint."""
    todo = np.ones(len(plan.parts), bool)
    n_damaged = 0
    work = partial(blocks.check, plan.layout, identity["fingerprint"], settings.recheck)
    for found in run(work, blocks.of(plan.parts)):
        if found.refused:
            part, why = found.refused
            raise DamagedDataset(
                f"manifest/{part}.json is another dataset's: {why}", by_repair(plan.layout.url)
            )
        todo[found.start : found.start + len(found.good)] = ~np.asarray(found.good, bool)
        for name, why in found.damaged[: max(0, NAMED - n_damaged)]:
            log.warning("shard %s.tar: %s; it is built anew", name, why)
        n_damaged += len(found.damaged)
    if n_damaged > NAMED:
        log.warning("%d more parts are damaged; they are built anew", n_damaged - NAMED)
    if n_good := int((~todo).sum()):
        log.info("skipped %d of %d parts that are committed and check out", n_good, len(todo))
    return plan.parts.take(np.flatnonzero(todo))


def incompleteness(plan: Plan, run: Map) -> str:
    """What to say of a dataset of which parts have no manifest row; "" where all have one."""
    missing = sum(
        there.count(False) for _, there in run(partial(blocks.with_row, plan.layout), blocks.of(plan.parts))
    )
    if not missing:
        return ""
    n = len(plan.parts)
    return f"not complete: {missing} of {n} parts are missing; the command that made it makes them"


def finish(
    settings: BuildSettings, plan: Plan, identity: dict[str, str], how: dict[str, Any] | None, run: Map
) -> dict[str, Any]:
    """Compares the manifest with the plan, writes the tables and the summary; returns the summary.

    how: how the run went; None where nothing was to do. Raises Incomplete for a part without a row, for counts that do not
    add up, for rows of another fingerprint or of no part, and if a budget is exceeded.
    """
    layout = plan.layout
    _check_folders(layout)
    totals: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    n_shards = 0
    with Table(layout.manifest, records.MANIFEST) as rows, Table(layout.rejects, records.REJECTS) as rejects:
        for sums in run(partial(blocks.add_up, layout, identity), blocks.of(plan.parts)):
            if sums.fault:
                raise Incomplete(sums.fault)
            totals.update(sums.totals)
            seconds.update(sums.seconds)
            reasons.update(sums.reasons)
            n_shards += sums.n_shards
            rows.add(sums.manifest)
            rejects.add(sums.rejects)
        sha256 = {"manifest.parquet": rows.write(), "rejects.parquet": rejects.write()}
    summary = {
        **{name: totals[name] for name in TOTALS},
        "n_shards": n_shards,
        "rejects_by_reason": dict(sorted(reasons.items())),
        "stage_seconds": {name: round(value, 3) for name, value in sorted(seconds.items())},
        **identity,
        "sha256": {"settings.yaml": storage.sha256(layout.settings), **sha256},
    }
    # a build that found everything in place leaves the last run's figures
    if how or _sums_of(layout) != summary["sha256"]:
        write_summary(layout, {**summary, "last_run": how or {}})
    check_budgets(settings, reasons, plan.n_samples)
    return {**summary, "last_run": how or {"n_parts_built": 0}}


def _sums_of(layout: Layout) -> Any:
    """The hashes that `summary.json` has; None where it is missing or damaged."""
    try:
        return json.loads(storage.read_bytes(layout.summary))["sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _check_folders(layout: Layout) -> None:
    """Raises Incomplete if the plan or the concept pool was lost while the parts ran."""
    try:
        Plan.check(layout)
    except (FileNotFoundError, ValueError) as e:
        raise Incomplete(f"the plan was lost meanwhile ({e}); the same command goes on") from e
    if concepts.embeddings_record(layout) is None:
        raise Incomplete("the concept pool was lost meanwhile; the same command goes on")


def write_summary(layout: Layout, summary: dict[str, Any]) -> None:
    storage.write_bytes(layout.summary, json.dumps(summary, indent=1).encode())


class Table:
    """A parquet file that is made block by block in a local temporary file. `write` sends it to `url` unless it lies there
    already, byte for byte: a finished dataset is left alone. The same rows in the same blocks, the same bytes."""

    def __init__(self, url: str, schema: pa.Schema):
        self._url, self._schema = url, schema
        self._file = tempfile.TemporaryFile(prefix=storage.TEMPORARY)  # noqa: SIM115 - closed by __exit__
        self._writer = pq.ParquetWriter(self._file, schema)
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """The next rows."""
        self._waiting.append(table)
        if sum(t.num_rows for t in self._waiting) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        table = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        if table.num_rows:
            self._writer.write_table(table)
        self._waiting = []

    def write(self) -> str:
        """Writes what changed; returns the file's sha256."""
        self._flush()
        self._writer.close()
        self._file.seek(0)
        digest = hashlib.sha256()
        while chunk := self._file.read(1 << 20):
            digest.update(chunk)
        if not storage.exists(self._url) or storage.sha256(self._url) != digest.hexdigest():
            self._file.seek(0)
            with storage.atomic_write(self._url) as target:
                shutil.copyfileobj(self._file, target, 1 << 20)
        return digest.hexdigest()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()
