"""The set-prediction loss of `detr`, `dab-detr` and `dn-detr`, class-agnostic."""

from __future__ import annotations

import torch
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from pipeline.localizers.set_network import SetPrediction, corners
from training.distributed import mean_count
from training.localizers.denoising import DenoisingTargets
from training.localizers.matching import ALPHA, GAMMA, GIOU_COST, L1_COST, OBJECTNESS_COST, match


def set_loss(prediction: SetPrediction, objects: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Focal objectness, L1 and GIoU of matched queries, every decoder layer matched and counted on its own.

    objects: one [M, 4] tensor an image, centre x, y, width, height in [0, 1]. Each term is a sum over the batch over
    the number of objects (over ranks: `mean_count`), then summed over layers, and has its weight in it (2, 5, 2).
    """
    terms = {name: prediction.logits.sum() * 0 for name in ("objectness", "l1", "giou")}
    count = mean_count(sum(len(o) for o in objects), prediction.logits.device)
    for logits, boxes in zip(prediction.logits, prediction.boxes, strict=True):
        owner = match(logits.detach(), boxes.detach(), objects).to(boxes.device)
        taken = owner >= 0
        target = torch.cat([o[w[w >= 0]] for o, w in zip(objects, owner, strict=True)])
        _add(terms, logits, taken, boxes[taken], target, count)
    return terms


def denoising_loss(prediction: SetPrediction, targets: DenoisingTargets) -> dict[str, torch.Tensor]:
    """The same terms for denoising queries, each against the box it was made from; filler queries do not count."""
    terms = {name: prediction.logits.sum() * 0 for name in ("dn_objectness", "dn_l1", "dn_giou")}
    count = mean_count(int(targets.real.sum()), prediction.logits.device)
    for logits, boxes in zip(prediction.logits, prediction.boxes, strict=True):
        real = targets.real
        _add(
            terms,
            logits[real],
            torch.ones_like(logits[real], dtype=torch.bool),
            boxes[real],
            targets.boxes[real],
            count,
        )
    return terms


def _add(
    terms: dict[str, torch.Tensor],
    logits: torch.Tensor,
    positive: torch.Tensor,
    boxes: torch.Tensor,
    target: torch.Tensor,
    count: float,
) -> None:
    objectness, l1, giou = terms
    focal = sigmoid_focal_loss(logits, positive.float(), alpha=ALPHA, gamma=GAMMA, reduction="sum")
    terms[objectness] = terms[objectness] + OBJECTNESS_COST * focal / count
    terms[l1] = terms[l1] + L1_COST * (boxes - target).abs().sum() / count
    if len(boxes):
        overlap = generalized_box_iou_loss(corners(boxes), corners(target), reduction="sum")
        terms[giou] = terms[giou] + GIOU_COST * overlap / count
