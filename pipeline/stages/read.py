"""Stage 1 of a build: a part of the plan -> samples with their image bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline import sources
from pipeline.block_list import BlockList
from pipeline.dataset import concepts, records
from pipeline.dataset.plan import part_rows
from pipeline.filters import check_bytes
from pipeline.images import BadSample
from pipeline.mentions import concept_phrases, concept_spans
from pipeline.stages.chain import Job, Payload


class Read:
    """Reads the image of every sample of the part; what the plan knows to be unusable becomes a reject."""

    name = "read"
    reads = records.PARTS
    writes = records.SAMPLES

    def __init__(self, job: Job):
        self._layout = job.layout
        self._source = sources.load(job.settings.source)
        self._pool = concepts.load_pool(job.layout)
        self._blocked = BlockList.of_setting(job.settings.source.block_list)
        self._filters = job.settings.filters

    def __call__(self, payload: Payload) -> pa.Table:
        self._source.check()
        rows = part_rows(self._layout, payload.part).to_pylist()
        samples = payload.rejects.guard(self.name, self._sample, rows, lambda r: r)
        return records.with_images(samples, self.writes)

    def _sample(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["problem"]:
            reason, _, detail = row["problem"].partition(": ")
            raise BadSample(reason, detail)
        image = self._source.read(row)
        key = records.sample_key(row["source_key"], image)
        self._blocked.check_image(key, image)
        check_bytes(len(image), self._filters)
        spans = concept_spans(self._pool, row["captions"], row["spans"])
        return {
            "key": key,
            "source_key": row["source_key"],
            "source": row["location"],
            "image": image,
            "captions": row["captions"],
            "extra": row["extra"],
            "mentioned": self._pool.ids_of(row["mentions"]),
            "spans": spans,
            "phrases": concept_phrases(spans, row["phrases"]),
        }
