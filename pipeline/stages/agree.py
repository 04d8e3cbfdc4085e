"""The middle stage of a merge: stored samples -> the same, with only those pairs that other datasets have too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dataset import records, sample
from pipeline.dataset.layout import Layout
from pipeline.dataset.npz import read_npz
from pipeline.dataset.shards import samples_of
from pipeline.scores import NOT_AGREED, agreed
from pipeline.stages.chain import Job, Payload
from pipeline.stages.read_shard import stored_part

#: Boxes [Q, 4] and labels [Q] of an image's pairs.
Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Votes:
    """What has to agree.

    datasets: URLs of the other datasets. fingerprints: theirs. iou: least overlap of two boxes. votes: how many of the
    other datasets must have the pair.
    """

    datasets: tuple[str, ...]
    fingerprints: tuple[str, ...]
    iou: float
    votes: int

    def identity(self) -> dict[str, Any]:
        return {"datasets": list(self.fingerprints), "iou": self.iou, "votes": self.votes}


class Agree:
    """A pair for which too few others have one of the same concept at the same place is no pair (NOT_AGREED)."""

    name = "agree"
    reads = records.STORED
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        self._job, self._votes = job, job.options

    def __call__(self, payload: Payload) -> pa.Table:
        others = [self._pairs(url, payload.part.name) for url in self._votes.datasets]
        rows = [self._row(row, others) for row in payload.table.to_pylist()]
        return pa.Table.from_pylist(rows, self.writes)

    def _pairs(self, url: str, part: str) -> dict[str, Pairs]:
        """Sample key -> the pairs that the dataset at `url` has of it."""
        row, data = stored_part(Layout(url), part)
        found = {}
        for stored in samples_of(data) if row["shard"] else ():
            kept = sample.is_pair(stored.arrays)
            found[stored.key] = (
                stored.arrays["boxes_xyxy_norm"][kept],
                stored.arrays["topk_ids"][kept, 0],
            )
        return found

    def _row(self, stored: dict[str, Any], others: list[dict[str, Pairs]]) -> dict[str, Any]:
        arrays, meta = read_npz(stored["arrays"]), json.loads(stored["meta"])
        boxes, labels = arrays["boxes_xyxy_norm"], arrays["topk_ids"][:, 0]
        votes = np.zeros(len(boxes), int)
        for other in others:
            if stored["key"] in other:
                votes += agreed(boxes, labels, *other[stored["key"]], self._votes.iou)
        lost = sample.is_pair(arrays) & (votes < self._votes.votes)
        arrays["kept"] = np.where(lost, NOT_AGREED, arrays["kept"]).astype(np.uint8)
        meta |= self._job.identity
        meta["pairs"] = [pair for pair in meta["pairs"] if not lost[pair["region"]]]
        return sample.annotated_row(stored["key"], stored["extension"], stored["image"], meta, arrays)
