"""Stage 2 of a build: samples -> samples with regions and labels. The only stage that holds models.

They are imported where the stage is made: workers of the other stages, and drivers, know this file and start without torch.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.dataset import concepts, records
from pipeline.stages.chain import WAITED, Job, Payload


class Annotate:
    """`Annotator` as a stage."""

    name = "compute"
    reads = records.SAMPLES
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        from pipeline.stages.annotator import Annotator

        vocabulary = concepts.load_vocabulary(job.layout)
        self._annotator = Annotator(
            job.settings, vocabulary, job.identity["fingerprint"], job.decode_threads, job.at_once
        )

    def __call__(self, payload: Payload) -> pa.Table:
        rows = self._annotator(records.with_views(payload.table), payload.rejects)
        payload.seconds[WAITED] = self._annotator.waited_s
        return _with_images(rows, payload.table)


def _with_images(rows: list[dict[str, Any]], samples: pa.Table) -> pa.Table:
    """Rows of `records.ANNOTATED` as a table; its images are those of `samples`, and are not copied where all are there."""
    place = records.ANNOTATED.get_field_index("image")
    table = pa.Table.from_pylist(rows, records.ANNOTATED.remove(place))
    images = samples["image"]
    if len(rows) < len(samples):
        at = {key: row for row, key in enumerate(samples["key"].to_pylist())}
        images = images.take(pa.array([at[row["key"]] for row in rows], pa.int64()))
    return table.add_column(place, records.ANNOTATED.field(place), images)
