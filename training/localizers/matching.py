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
def match(logits: torch.Tensor, boxes: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """The object of each query under the cheapest one-to-one assignment: int64 [Q], -1 for none."""
    owner = torch.full((len(logits),), -1, dtype=torch.int64)
    if len(objects):
        cost = matching_cost(logits, boxes, objects).double().cpu().numpy()
        queries, matched = linear_sum_assignment(cost)
        owner[torch.from_numpy(queries)] = torch.from_numpy(matched)
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
