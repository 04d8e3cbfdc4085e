"""COCO's average recall of proposals, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.localizers import Localizer, Proposals
from training.localizers.examples import BoxSource, Example

LIMITS = (10, 100, 300)


def propose_all(localizer: Localizer, source: BoxSource) -> list[Proposals]:
    """One `Proposals` an example, in order."""
    return [localizer([source[i].image])[0] for i in range(len(source))]


def average_recall(
    examples: list[Example], proposals: list[Proposals], limits: tuple[int, ...] = LIMITS
) -> dict[str, float]:
    """`ar10`, `ar100`, `ar300` in [0, 1]: recall at the best 10 / 100 / 300 boxes an image, averaged over IoU 0.5:0.95
    (COCO's definition with a single category); `small`, `medium`, `large` split AR@100 by COCO's areas in pixels.

    Ignored areas (crowds) neither count as found nor as missed.
    """
    truth = COCO()
    truth.dataset = _dataset(examples)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        rows = _detections(examples, proposals)
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(limits)
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"]  # [IoU, category, area, limit], -1 where there is no object
    names = {f"ar{limit}": recall[:, 0, 0, i] for i, limit in enumerate(limits)}
    at = limits.index(100) if 100 in limits else len(limits) - 1
    names |= {name: recall[:, 0, area, at] for name, area in (("small", 1), ("medium", 2), ("large", 3))}
    return {
        name: float(np.mean(values)) if (values > -1).all() else float("nan")
        for name, values in names.items()
    }


def _dataset(examples: list[Example]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, example in enumerate(examples):
        height, width = example.image.shape[:2]
        images.append({"id": index, "width": width, "height": height})
        for crowd, boxes in enumerate((example.boxes, example.ignored)):
            for x0, y0, x1, y1 in boxes.tolist():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": 1,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": crowd,
                    }
                )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def _detections(examples: list[Example], proposals: list[Proposals]) -> list[dict[str, Any]]:
    rows = []
    for index, (example, found) in enumerate(zip(examples, proposals, strict=True)):
        height, width = example.image.shape[:2]
        scaled = found.boxes_xyxy_norm.astype(np.float64) * [width, height, width, height]
        for (x0, y0, x1, y1), score in zip(scaled.tolist(), found.objectness.tolist(), strict=True):
            rows.append(
                {
                    "image_id": index,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": float(score),
                }
            )
    return rows
