"""The last stage: annotated samples -> a shard, its index and its manifest row."""

from __future__ import annotations

import time

import pyarrow as pa

import storage
from pipeline.dataset import records, shards
from pipeline.stages.chain import Job, Payload


class Commit:
    """Writes a part, and nothing once the claim on the dataset is another's."""

    name = "write"
    reads = records.ANNOTATED
    writes = records.MANIFEST
    #: Whether the shard holds the images too.
    images = True

    def __init__(self, job: Job):
        self._job = job

    def __call__(self, payload: Payload) -> pa.Table:
        started = time.perf_counter()
        storage.require_claim(self._job.out, self._job.claim)
        row = shards.commit(
            self._job.layout,
            payload.part.name,
            payload.part.n_samples,
            records.with_views(payload.table),
            payload.rejects.rows,
            self._job.identity,
            lambda: {**payload.seconds, self.name: time.perf_counter() - started},
            self.images,
        )
        return pa.Table.from_pylist([{name: row[name] for name in self.writes.names}], self.writes)


class CommitLabels(Commit):
    """Writes labels alone; the images stay where they are."""

    images = False
