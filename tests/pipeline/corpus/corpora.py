"""Small corpora whose truth is known: regions of a few kinds and background, captions that name what an image shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.corpus.classifier import unit_rows
from pipeline.corpus.regions import ShardRegions, of_images
from pipeline.scores import Objectness

TAU, OBJECTNESS = 0.1, Objectness(1.0, 0.0)


@dataclass(frozen=True)
class Corpus:
    """truth: int [R] over all shards, -1 for background. text: float32 [C, D], of which the last few know nothing."""

    shards: list[ShardRegions]
    truth: np.ndarray
    text: np.ndarray


def corpus(
    images: int = 240,
    kinds: int = 8,
    unknown: int = 3,
    width: int = 16,
    regions: int = 6,
    per_shard: int = 24,
    seed: int = 0,
    shuffled: bool = False,
    wrong: float = 0.1,
) -> Corpus:
    """Kind centres are random; the text embedding of a known kind is near its centre, that of an unknown one is not."""
    rng = np.random.default_rng(seed)
    centres = unit_rows(rng.normal(size=(kinds, width)))
    text = unit_rows(centres + 0.2 * rng.normal(size=centres.shape))
    text[kinds - unknown :] = unit_rows(rng.normal(size=(unknown, width)))
    noise = unit_rows(rng.normal(size=(3, width)))
    embeddings, objectness, mentioned, truths = [], [], [], []
    for _ in range(images):
        shown = rng.choice(kinds, 2, replace=False)
        truth = np.array([*shown, *rng.choice(shown, 1), *[-1] * (regions - 3)])
        centre = np.where(truth[:, None] >= 0, centres[truth], noise[rng.integers(3, size=regions)])
        embeddings.append(unit_rows(centre + 0.18 * rng.normal(size=centre.shape)))
        objectness.append(
            np.where(truth >= 0, 1.0, -1.0).astype(np.float32) + rng.normal(size=regions).astype(np.float32)
        )
        names = [int(rng.integers(kinds)) if rng.random() < wrong else int(k) for k in shown]
        mentioned.append(sorted(set(names)))
        truths.append(truth)
    if shuffled:
        mentioned = [mentioned[i] for i in rng.permutation(images)]
    shards = [
        of_images(embeddings[i : i + per_shard], objectness[i : i + per_shard], mentioned[i : i + per_shard])
        for i in range(0, images, per_shard)
    ]
    return Corpus(shards, np.concatenate(truths), text)


def as_int8(shard: ShardRegions) -> ShardRegions:
    """The same regions as int8 with scales, as a dataset stores them."""
    scales = np.abs(shard.embeddings).max(axis=1).astype(np.float32) / 127
    whole = np.rint(shard.embeddings / scales[:, None]).astype(np.int8)
    return ShardRegions(whole, shard.objectness, shard.offsets, shard.mentioned, scales)
