"""The one stage of a removal: a part of a dataset -> the same part without some of its samples."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import storage
from pipeline.block_list import BlockList
from pipeline.dataset import blocks, records, shards
from pipeline.dataset.layout import Layout
from pipeline.dataset.sample import Sample, stored_row
from pipeline.stages.chain import Job, Payload
from pipeline.stages.read_shard import damaged, stored_part

REMOVED = "removed"


@dataclass(frozen=True)
class Removal:
    """What goes: part -> source key of a sample -> the entry of the list that names it."""

    listed: BlockList
    matches: dict[str, dict[str, str]]

    def identity(self) -> dict[str, Any]:
        return self.listed.identity()


class Remove:
    """Rewrites a part that holds a listed sample; any other is carried over as it is."""

    name = "write"
    reads = records.PARTS
    writes = records.MANIFEST

    def __init__(self, job: Job):
        assert job.dataset is not None
        self._job, self._from = job, Layout(job.dataset)
        self._matches: dict[str, dict[str, str]] = job.options.matches

    def __call__(self, payload: Payload) -> pa.Table:
        started = time.perf_counter()
        storage.require_claim(self._job.out, self._job.claim)

        def seconds() -> dict[str, float]:
            return {**payload.seconds, self.name: time.perf_counter() - started}

        gone = self._matches.get(payload.part.name, {})
        row = self._rewritten(payload, gone, seconds) if gone else self._carried(payload, seconds)
        return pa.Table.from_pylist([{name: row[name] for name in self.writes.names}], self.writes)

    def _carried(self, payload: Payload, seconds: Any) -> dict[str, Any]:
        row, _ = stored_part(self._from, payload.part.name, with_bytes=False)
        payload.rejects.rows.extend(row["rejects"])
        if why := self._damage(row):
            raise damaged(self._from, f"{row['shard']} is damaged: {why}")
        return shards.carry(self._from, self._job.layout, row, self._job.identity, seconds)

    def _damage(self, row: dict[str, Any]) -> str:
        """Why the files of a part are not those of its row, or "". By `recheck`: all bytes, or the size alone."""
        if not row["shard"]:
            return ""
        if self._job.settings.recheck == "bytes":
            return blocks.changed(self._from, row)
        try:
            n_bytes = storage.size(self._from.shard(row["part"]))
        except FileNotFoundError:
            return "missing"
        return "" if n_bytes == row["n_bytes"] else f"{n_bytes} bytes instead of {row['n_bytes']}"

    def _rewritten(self, payload: Payload, gone: dict[str, str], seconds: Any) -> dict[str, Any]:
        row, data = stored_part(self._from, payload.part.name)
        payload.rejects.rows.extend(row["rejects"])
        kept = []
        for key, members in shards.read_shard(data):
            sample = Sample.parse(key, members)
            entry = gone.get(sample.meta["source_key"])
            if entry is None:
                kept.append(stored_row(sample, members))
            else:
                payload.rejects.add("remove", sample.meta, REMOVED, f"listed as {entry}")
        return shards.commit(
            self._job.layout,
            payload.part.name,
            payload.part.n_samples,
            kept,
            payload.rejects.rows,
            self._job.identity,
            seconds,
        )
