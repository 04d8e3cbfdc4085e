"""Statistics of some shards -> a better classifier (a step of the M-step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.corpus.classifier import Classifier
from pipeline.corpus.expectation import Statistics

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
#: Learning rate of the biases, which are in logits while weight vectors have length 1.
BIAS_RATE = 0.1


@dataclass
class Moments:
    """Adam's running moments of weights and biases (column D), float32 [C + 1, D + 1], and how often each row moved.

    steps: int64 [C + 1]. A row that no caption of a step names does not move, and its moments do not decay.
    """

    first: np.ndarray
    second: np.ndarray
    steps: np.ndarray


def start(classifier: Classifier) -> Moments:
    """No step yet."""
    rows, width = classifier.weights.shape
    return Moments(
        np.zeros((rows, width + 1), np.float32),
        np.zeros((rows, width + 1), np.float32),
        np.zeros(rows, np.int64),
    )


def step(
    classifier: Classifier, moments: Moments, found: Sequence[Statistics], learning_rate: float
) -> tuple[Classifier, Moments]:
    """One step of Adam (Kingma & Ba, ICLR 2015) on the summed statistics; the inputs stay as they are.

    The sum goes over `found` in its order, so the result does not depend on who computed which part when.
    """
    n = sum(s.regions for s in found)
    rows = np.unique(np.concatenate([s.rows for s in found])) if found else np.zeros(0, np.int64)
    if not n or not len(rows):
        return classifier, moments
    width = classifier.weights.shape[1]
    total = np.zeros((len(rows), width + 1), np.float32)
    for s in found:
        place = np.searchsorted(rows, s.rows)
        total[place, :width] += s.gradient / np.float32(classifier.tau)
        total[place, width] += s.bias
    total /= np.float32(n)
    moved = Moments(moments.first.copy(), moments.second.copy(), moments.steps.copy())
    moved.steps[rows] += 1
    moved.first[rows] = FIRST * moved.first[rows] + (1 - FIRST) * total
    moved.second[rows] = SECOND * moved.second[rows] + (1 - SECOND) * total**2
    t = moved.steps[rows].astype(np.float64)[:, None]
    mean = moved.first[rows] / (1 - FIRST**t)
    scale = np.sqrt(moved.second[rows] / (1 - SECOND**t)) + TINY
    change = (mean / scale).astype(np.float32)
    weights, bias = classifier.weights.copy(), classifier.bias.copy()
    weights[rows] += np.float32(learning_rate / np.sqrt(width)) * change[:, :width]
    bias[rows] += np.float32(BIAS_RATE) * change[:, width]
    return Classifier(weights, bias, classifier.tau, classifier.objectness), moved
