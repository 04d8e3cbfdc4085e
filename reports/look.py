"""A look at a few shards of a dataset: what its report says of single samples comes from these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.dataset import Dataset, Sample, ShardRow
from pipeline.images import BadSample
from pipeline.scores import KEPT
from reports.choose import read_first
from reports.pictures import difference_hash, shrunk

#: Bytes read of one shard at most.
SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class Seen:
    """One sample without its image. R regions.

    place: shard and position in it. mentioned: concept ids. boxes: float32 [R, 4], xyxy in [0, 1]; labels: int [R];
    probabilities, scores, objectness, entropy: float32 [R], entropy as a share of that of equal probabilities.
    reasons: uint8 [R], 0 for a pair, else why it is none (pipeline/scores.py).
    looks: 64 bits that equal pictures share, None where the image cannot be decoded.
    """

    place: tuple[ShardRow, int]
    key: str
    source_key: str
    captions: list[str]
    mentioned: frozenset[int]
    width: int
    height: int
    n_bytes: int
    boxes: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray
    objectness: np.ndarray
    entropy: np.ndarray
    reasons: np.ndarray
    looks: int | None

    @property
    def kept(self) -> np.ndarray:
        """bool [R], the pairs."""
        return self.reasons == KEPT

    @property
    def confidence(self) -> float:
        """Mean probability of the pairs, 0 without any."""
        return float(self.probabilities[self.kept].mean()) if self.kept.any() else 0.0

    @property
    def areas(self) -> np.ndarray:
        """float32 [R], shares of the image."""
        return (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])

    @property
    def short_sides(self) -> np.ndarray:
        """float32 [R], pixels of each box's shorter side."""
        return np.minimum(
            (self.boxes[:, 2] - self.boxes[:, 0]) * self.width,
            (self.boxes[:, 3] - self.boxes[:, 1]) * self.height,
        )


@dataclass(frozen=True)
class Look:
    """seen: samples of `shards`, the first ones of each. rule: how they were chosen, for people."""

    seen: list[Seen]
    shards: list[ShardRow]
    rule: str


def look(dataset: Dataset, max_shards: int, max_samples: int) -> Look:
    """The first samples of the `max_shards` shards of lowest sha256, as many of each; nothing else is read."""
    shards = sorted(dataset.shards, key=lambda s: s.sha256)[:max_shards]
    each = -(-max_samples // max(1, len(shards)))
    n_concepts = len(dataset.pool.names)
    seen = [s for shard in shards for s in _seen(shard, each, n_concepts)]
    rule = f"all {len(seen)} samples"
    if len(seen) < dataset.n_samples:
        rule = (
            f"{len(seen)} of {dataset.n_samples} samples: {each} at most, those of lowest key (a hash), of each of "
            f"{len(shards)} of {len(dataset.shards)} shards, those of lowest sha256"
        )
    return Look(seen, shards, rule)


def _seen(shard: ShardRow, n: int, n_concepts: int) -> Iterator[Seen]:
    for position, sample in enumerate(read_first(shard, n, SHARD_BYTES)):
        yield seen_of(sample, (shard, position), n_concepts)


def seen_of(sample: Sample, place: tuple[ShardRow, int], n_concepts: int, decoded: bool = True) -> Seen:
    """What the report keeps of a sample. decoded: False leaves out what the image looks like."""
    meta, arrays = sample.meta, sample.arrays
    top = arrays["topk_probs"].astype(np.float32)
    try:
        looks = difference_hash(shrunk(sample.image, 64)) if decoded else None
    except BadSample:
        looks = None
    return Seen(
        place,
        sample.key,
        meta["source_key"],
        meta["captions"],
        frozenset(meta["mentioned"]),
        meta["width"],
        meta["height"],
        len(sample.image),
        arrays["boxes_xyxy_norm"].astype(np.float32),
        arrays["topk_ids"][:, 0].astype(int),
        top[:, 0],
        arrays["scores"].astype(np.float32),
        arrays["objectness"].astype(np.float32),
        relative_entropy(top, arrays["residual"].astype(np.float32), n_concepts),
        arrays["kept"],
        looks,
    )


def relative_entropy(top: np.ndarray, residual: np.ndarray, n_concepts: int) -> np.ndarray:
    """Entropy of each region's probabilities over that of `n_concepts` equal ones: float32 [R] in [0, 1].

    top: [R, k] stored probabilities; residual: [R], the mass of the other concepts, taken as spread evenly over them.
    """
    if n_concepts < 2:
        return np.zeros(len(top), np.float32)
    rest = max(1, n_concepts - top.shape[1])
    parts = -np.where(top > 0, top * np.log(np.maximum(top, 1e-12)), 0).sum(axis=1)
    spread = -np.where(residual > 0, residual * np.log(np.maximum(residual, 1e-12) / rest), 0)
    return np.clip((parts + spread) / np.log(n_concepts), 0, 1).astype(np.float32)
