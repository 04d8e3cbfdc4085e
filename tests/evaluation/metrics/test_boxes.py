"""Overlap, matching and proposal recall against slow twins."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics import boxes


def _random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    corner = rng.random((n, 2)) * 0.7
    return np.concatenate([corner, corner + 0.05 + rng.random((n, 2)) * 0.25], axis=1)


def _slow_iou(a, b) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union


def test_iou_meets_its_slow_twin():
    rng = np.random.default_rng(0)
    a, b = _random_boxes(rng, 12), _random_boxes(rng, 9)
    slow = [[_slow_iou(x, y) for y in b] for x in a]
    assert boxes.iou(a, b) == pytest.approx(np.array(slow))


def test_a_box_without_area_overlaps_nothing():
    assert boxes.iou([[0.2, 0.2, 0.2, 0.2]], [[0.2, 0.2, 0.2, 0.2]])[0, 0] == 0


def test_best_match_without_truth():
    overlap, index = boxes.best_match(np.array([[0, 0, 1, 1.0]]), np.zeros((0, 4)))
    assert (overlap[0], index[0]) == (0.0, -1)


def test_recall_meets_its_slow_twin():
    rng = np.random.default_rng(1)
    truths = [_random_boxes(rng, n) for n in (3, 0, 5)]
    proposals = [np.concatenate([t + rng.normal(0, 0.03, t.shape), _random_boxes(rng, 6)]) for t in truths]
    found = boxes.recall(proposals, truths, at=(2, 8))
    for n in (2, 8):
        hits = [
            max((_slow_iou(p, t) for p in image[:n]), default=0.0)
            for image, ts in zip(proposals, truths, strict=True)
            for t in ts
        ]
        assert found[f"recall50@{n}"] == pytest.approx(np.mean([h >= 0.5 for h in hits]))
        ar = np.mean([np.mean([h >= t for h in hits]) for t in np.arange(0.5, 1.0, 0.05).round(2)])
        assert found[f"ar@{n}"] == pytest.approx(ar)
    assert found["recall50@2"] < found["recall50@8"]


def test_swapped_axes_are_caught():
    """The direct check for boxes with x and y swapped: recall of perfect proposals falls from 1."""
    rng = np.random.default_rng(2)
    truths = [_random_boxes(rng, 4) for _ in range(10)]
    assert boxes.recall(truths, truths, at=(10,))["recall50@10"] == 1
    assert boxes.recall([t[:, [1, 0, 3, 2]] for t in truths], truths, at=(10,))["recall50@10"] < 0.3
