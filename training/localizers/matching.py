"""One-to-one matching of queries and objects (Carion et al., ECCV 2020, eq. 1), class-agnostic."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import generalized_box_iou

from pipeline.localizers.set_network import corners

#: Weights of objectness, L1 and GIoU, in the matching cost and in the loss alike (DAB-DETR's).
OBJECTNESS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0
ALPHA, GAMMA = 0.25, 2.0


def matching_cost(logits: torch.Tensor, boxes: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """Cost of giving each of M objects to each of Q queries: float32 [Q, M].

    logits: [Q]; boxes: [Q, 4]; objects: [M, 4], both centre x, y, width, height in [0, 1]. The objectness cost is that
    of the focal loss: what a positive would cost less what a negative would (Deformable DETR's matcher).
    """
    p = logits.sigmoid()
    positive = ALPHA * (1 - p) ** GAMMA * -(p + 1e-8).log()
    negative = (1 - ALPHA) * p**GAMMA * -(1 - p + 1e-8).log()
    l1 = torch.cdist(boxes, objects, p=1)
    giou = generalized_box_iou(corners(boxes), corners(objects))
    return OBJECTNESS_COST * (positive - negative)[:, None] + L1_COST * l1 - GIOU_COST * giou


@torch.no_grad()
def match(logits: torch.Tensor, boxes: torch.Tensor, objects: list[torch.Tensor]) -> torch.Tensor:
    """The object of each query under each image's cheapest one-to-one assignment: int64 [B, Q], -1 for none.

    logits: [B, Q]; boxes: [B, Q, 4]; objects: one [M, 4] tensor an image; an owner counts within its image. All costs are
    computed at once (also those across images, which are not read): few large operations beat many small ones.
    """
    batch, queries = logits.shape
    owner = torch.full((batch, queries), -1, dtype=torch.int64)
    every = torch.cat(objects)
    if not len(every):
        return owner
    cost = matching_cost(logits.flatten(), boxes.flatten(0, 1), every).view(batch, queries, -1)
    by_image = cost.double().cpu().split([len(o) for o in objects], dim=2)
    for index, of_image in enumerate(by_image):
        rows, columns = linear_sum_assignment(of_image[index].numpy())
        owner[index, torch.from_numpy(rows)] = torch.from_numpy(columns)
    return owner


def instability(before: list[torch.Tensor], after: list[torch.Tensor]) -> float:
    """Share of queries whose matched object is another one than an epoch ago, among those matched in either
    (DN-DETR, 3.2, there as a count an image). NaN where nothing is matched."""
    changed = matched = 0
    for old, new in zip(before, after, strict=True):
        either = (old >= 0) | (new >= 0)
        matched += int(either.sum())
        changed += int((old != new)[either].sum())
    return changed / matched if matched else float("nan")
