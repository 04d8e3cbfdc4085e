"""Boxes against boxes: overlap, matching, proposal recall. Pure NumPy; boxes are xyxy in one shared frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, float64 [len(a), len(b)]; 0 for boxes without area."""
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)
    union = area_a[:, None] + area_b[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def best_match(boxes: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each box the truth box that it overlaps most: (IoU float64 [R], index int [R]); (0, -1) without truth."""
    if len(truth) == 0:
        return np.zeros(len(boxes)), np.full(len(boxes), -1)
    overlap = iou(boxes, truth)
    index = overlap.argmax(1) if len(boxes) else np.zeros(0, int)
    return overlap[np.arange(len(boxes)), index], index


def recall(
    proposals: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    at: Sequence[int] = (10, 50, 100),
    thresholds: Sequence[float] = tuple(np.arange(0.5, 1.0, 0.05).round(2)),
) -> dict[str, float]:
    """Share of the truth boxes that one of an image's first n proposals overlaps enough.

    proposals: one [R, 4] an image, best first. `recall50@n`, `recall70@n` at IoU 0.5 and 0.7; `ar@n` the mean over
    `thresholds` (COCO's average recall, but without matching one to one: two truths may share a proposal).
    """
    result = {}
    for n in at:
        best = [
            iou(boxes[:n], truth).max(0) if len(boxes) else np.zeros(len(truth))
            for boxes, truth in zip(proposals, truths, strict=True)
            if len(truth)
        ]
        found = np.concatenate(best) if best else np.zeros(0)
        for name, threshold in (("recall50", 0.5), ("recall70", 0.7)):
            result[f"{name}@{n}"] = float((found >= threshold).mean()) if len(found) else float("nan")
        shares = [(found >= t).mean() for t in thresholds] if len(found) else [float("nan")]
        result[f"ar@{n}"] = float(np.mean(shares))
    return result
