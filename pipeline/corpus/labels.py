"""A fitted classifier -> labels of regions, of the corpus that it was fitted to or of new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.corpus.classifier import Classifier
from pipeline.corpus.expectation import NEVER
from pipeline.ranking import top_of


@dataclass(frozen=True)
class Labels:
    """Labels of R regions; k as asked for, at most C.

    ids: int64 [R, k], concepts by falling probability, ties by rising id. probabilities: float32 [R, k], given that there
    is an object. background: float32 [R], the probability that there is none.
    """

    ids: np.ndarray
    probabilities: np.ndarray
    background: np.ndarray


def label(
    classifier: Classifier,
    embeddings: np.ndarray,
    objectness: np.ndarray,
    mentioned: Sequence[Sequence[int]],
    counts: Sequence[int],
    damping: float,
    k: int,
) -> Labels:
    """Labels the regions of images together.

    embeddings: unit float32 [R, D]; objectness: float32 [R], raw; counts: regions of each image, summing to R. mentioned:
    the concepts that each image's captions name; all others are `damping` times as likely (in an image that names none,
    all are equally so).
    """
    logits = classifier.logits(embeddings)
    concepts, background = logits[:, :-1], logits[:, -1] - classifier.objectness.logit(objectness)
    added = np.float32(np.log(damping)) if damping > 0 else NEVER
    start = 0
    for ids, n in zip(mentioned, counts, strict=True):
        if len(ids):
            rest = np.ones(concepts.shape[1], bool)
            rest[list(ids)] = False
            concepts[start : start + n, rest] += added
        start += n
    top = concepts.max(axis=1, initial=NEVER)
    total = top + np.log(np.exp(concepts - top[:, None]).sum(axis=1))
    conditional = np.exp(concepts - total[:, None])
    found, probabilities = top_of(torch.from_numpy(conditional), k)
    nothing = 1 / (1 + np.exp(np.clip(total - background, -60, 60)))
    return Labels(found.numpy(), probabilities.numpy(), nothing.astype(np.float32))
