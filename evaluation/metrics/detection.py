"""Open-vocabulary detection by region classification, scored by pycocotools: AP50 of base, novel and all classes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import batched_nms

from evaluation.settings import DetectionSettings, Fusion


@dataclass(frozen=True)
class Detections:
    """Of one image: boxes float32 [N, 4] in its pixels (xyxy), labels int [N], scores float32 [N], falling."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def detect(boxes: np.ndarray, scores: np.ndarray, settings: DetectionSettings) -> Detections:
    """Every (box, class) above the threshold, after NMS within each class. boxes: [R, 4]; scores: [R, C]."""
    row, column = np.nonzero(scores > settings.threshold)
    kept_boxes = torch.as_tensor(np.asarray(boxes, np.float32)[row])
    kept_scores = torch.as_tensor(scores[row, column].astype(np.float32))
    keep = batched_nms(kept_boxes, kept_scores, torch.as_tensor(column), settings.class_nms).numpy()
    keep = keep[: settings.max_detections]
    return Detections(kept_boxes.numpy()[keep], column[keep], kept_scores.numpy()[keep])


def propose(boxes: np.ndarray, objectness: np.ndarray, settings: DetectionSettings) -> np.ndarray:
    """Indices of the proposals that are scored, best first: NMS, then the first `max_proposals`."""
    keep = batched_nms(
        torch.as_tensor(np.asarray(boxes, np.float32)),
        torch.as_tensor(np.asarray(objectness, np.float32)),
        torch.zeros(len(boxes), dtype=torch.int64),
        settings.proposal_nms,
    )
    return keep.numpy()[: settings.max_proposals]


def fuse(scores: np.ndarray, objectness: np.ndarray, fusion: Fusion) -> np.ndarray:
    """Class scores [R, C] with the proposals' objectness logits [R] worked in.

    sqrt-logit: sqrt(p * logit), 0 for a negative logit: RegionCLIP's, which silently drops boxes. sqrt-sigmoid:
    sqrt(p * sigmoid(logit)), which drops none.
    """
    if fusion == "none":
        return scores
    weight = np.clip(objectness, 0, None) if fusion == "sqrt-logit" else 1 / (1 + np.exp(-objectness))
    return np.sqrt(scores * weight[:, None])


@dataclass(frozen=True)
class TrueBoxes:
    """Of one image: boxes [n, 4] in pixels (xyxy), labels int [n], its height and width."""

    boxes: np.ndarray
    labels: np.ndarray
    height: int
    width: int


def coco_ap(
    truths: Sequence[TrueBoxes], found: Sequence[Detections], names: Sequence[str], novel: np.ndarray
) -> dict[str, dict[str, float]]:
    """COCO's AP and AP50, means over the classes of base, novel and all that occur in the truth.

    novel: bool [C]. The evaluator is pycocotools; NaN where a split has no class.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data: dict = {"info": {}, "images": [], "annotations": [], "categories": []}
    data["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    results = []
    for image_id, (truth, detections) in enumerate(zip(truths, found, strict=True), start=1):
        data["images"].append({"id": image_id, "height": truth.height, "width": truth.width})
        for box, label in zip(_xywh(truth.boxes), truth.labels.tolist(), strict=True):
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for box, label, score in zip(
            _xywh(detections.boxes), detections.labels.tolist(), detections.scores.tolist(), strict=True
        ):
            results.append({"image_id": image_id, "category_id": label + 1, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = COCO()
        truth_set.dataset = data
        truth_set.createIndex()
        evaluation = COCOeval(truth_set, truth_set.loadRes(results) if results else COCO(), "bbox")
        if not results:
            return {split: {"ap": 0.0, "ap50": 0.0} for split in ("all", "base", "novel")}
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # [IoU, recall, class]: all areas, most detections
    present = np.array([(precision[:, :, c] > -1).any() for c in range(len(names))])
    splits = {"all": present, "base": present & ~novel, "novel": present & novel}
    return {
        name: {
            "ap": float(precision[:, :, chosen].mean()) if chosen.any() else float("nan"),
            "ap50": float(precision[0][:, chosen].mean()) if chosen.any() else float("nan"),
        }
        for name, chosen in splits.items()
    }


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
