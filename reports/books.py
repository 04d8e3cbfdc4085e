"""What the manifest and the summary of a dataset say of all of it: counts that add up, concepts, shards, time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import storage
from pipeline.dataset import Dataset, check_format, manifest
from pipeline.dataset.damage import by_its_maker, reading

_COUNTS = ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs", "n_bytes")


@dataclass(frozen=True)
class Books:
    """Exact figures of a whole dataset.

    counts: sums over all parts. pairs_of: int64 [C], pairs of each concept. shards: (name, n_samples, pairs a sample) of
    each shard. rejects: (reason, n) by falling n. summary: summary.json, empty before a build has finished. made_with:
    fingerprint.json.
    """

    counts: dict[str, int]
    pairs_of: np.ndarray
    shards: list[tuple[str, int, float]]
    rejects: list[tuple[str, int]]
    summary: dict[str, Any]
    made_with: dict[str, Any]

    @property
    def add_up(self) -> bool:
        """Whether every sample that was read was written or rejected."""
        return self.counts["n_read"] == self.counts["n_samples"] + self.counts["n_rejected"]


def open_books(dataset: Dataset) -> Books:
    """Reads the manifest and the summary; no shard."""
    rows = manifest.rows_of(dataset.layout)
    counts = {name: int(sum(rows.column(name).to_pylist())) for name in _COUNTS}
    shards = [
        (name, n, pairs / n)
        for name, n, pairs in zip(
            *(rows.column(c).to_pylist() for c in ("shard", "n_samples", "n_pairs")), strict=True
        )
        if n
    ]
    summary = _summary(dataset)
    rejects = sorted(summary.get("rejects_by_reason", {}).items(), key=lambda r: (-r[1], r[0]))
    return Books(
        counts,
        pairs_of(rows, len(dataset.pool.names)),
        shards,
        rejects,
        summary,
        check_format(dataset.layout),
    )


def pairs_of(rows: pa.Table, n_concepts: int) -> np.ndarray:
    """Pairs of each concept, int64 [C], from the counts in the manifest's rows."""
    total = np.zeros(n_concepts, np.int64)
    for batch in rows.select(["concept_ids", "concept_counts"]).to_batches(max_chunksize=1024):
        ids, counts = (batch.column(i).flatten().to_numpy(zero_copy_only=False) for i in (0, 1))
        np.add.at(total, ids, counts)
    return total


def unlike_shards(shards: list[tuple[str, int, float]], limit: float = 6.0) -> list[tuple[str, int, float]]:
    """Shards whose pairs a sample lie far from the median: by more than `limit` times the typical distance from it.

    The typical distance is 1.48 times the median one (that of a normal distribution's standard deviation).
    """
    rates = np.array([rate for _, _, rate in shards])
    if len(rates) < 8:
        return []
    middle = np.median(rates)
    spread = max(1.4826 * float(np.median(np.abs(rates - middle))), 1e-9 + 0.01 * float(middle))
    far = [i for i in np.argsort(-np.abs(rates - middle)) if abs(rates[i] - middle) > limit * spread]
    return [shards[i] for i in far]


def _summary(dataset: Dataset) -> dict[str, Any]:
    url = dataset.layout.summary
    with reading(url, by_its_maker(dataset.url)):
        try:
            return dict(json.loads(storage.read_bytes(url)))
        except FileNotFoundError:
            return {}
