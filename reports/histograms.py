"""Distributions over the samples looked at, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.look import Seen

BINS = 24


@dataclass(frozen=True)
class Histogram:
    """counts: int [B]; edges: float [B + 1]. mean, median: of the values; n of them. whole: bars are of integers."""

    title: str
    unit: str
    edges: list[float]
    counts: list[int]
    n: int
    mean: float
    median: float
    whole: bool = False


def all_of(seen: Sequence[Seen]) -> list[Histogram]:
    """Every histogram of the report. Pairs are the kept regions; an empty one has no bars."""
    kept = [s for s in seen if s.kept.any()]
    sides = [(s.boxes[s.kept, 2:] - s.boxes[s.kept, :2]) * [s.width, s.height] for s in kept]
    aspects = [w_h[:, 0] / np.maximum(w_h[:, 1], 1e-6) for w_h in sides]
    return [
        histogram("Pairs an image", "pairs", [float(s.kept.sum()) for s in seen], whole=True),
        histogram(
            "Box area of a pair", "share of the image", _joined([s.areas[s.kept] for s in kept]), log=True
        ),
        histogram("Box aspect of a pair", "width / height", _joined(aspects), log=True),
        histogram(
            "Probability of a label",
            "of the likeliest concept, every region",
            _joined([s.probabilities for s in seen]),
        ),
        histogram(
            "Probability of a pair",
            "of the same, kept regions",
            _joined([s.probabilities[s.kept] for s in kept]),
        ),
        histogram("Score of a region", "what pairs are chosen by", _joined([s.scores for s in seen])),
        histogram("Entropy of a label", "of the largest possible", _joined([s.entropy for s in seen])),
        histogram("Objectness of a region", "logit", _joined([s.objectness for s in seen])),
        histogram(
            "Caption length", "words", [float(len(c.split())) for s in seen for c in s.captions], whole=True
        ),
        histogram("Image size", "shorter side, px", [float(min(s.width, s.height)) for s in seen]),
    ]


def histogram(
    title: str, unit: str, values: Sequence[float] | np.ndarray, log: bool = False, whole: bool = False
) -> Histogram:
    """At most `BINS` bins from the smallest to the largest value. log: edges by equal factors; whole: of integers."""
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if not len(x):
        return Histogram(title, unit, [], [], 0, 0.0, 0.0)
    low, high = float(x.min()), float(x.max())
    if whole:
        step = max(1, -(-int(high - low + 1) // BINS))
        edges = np.arange(low - 0.5, high + step, step)
    elif high <= low:
        edges = np.array([low - 0.5, low + 0.5])
    elif log and low > 0:
        edges = np.geomspace(low, high, BINS + 1)
        edges[0], edges[-1] = low, high
    else:
        edges = np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(x, edges)
    rounded = [float(f"{e:.4g}") for e in edges]
    return Histogram(
        title, unit, rounded, counts.tolist(), len(x), float(x.mean()), float(np.median(x)), whole
    )


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0)
