"""The loss of `rpn-lite`: which cells answer for which object, and how well they do."""

from __future__ import annotations

import torch
from torchvision.ops import generalized_box_iou_loss

from training.distributed import mean_count

#: Longest distance to a side, in pixels, that each level (stride 8, 16, 32, 64) learns. The ranges overlap, so that an
#: object near a border is learned by two levels.
RANGES = ((0.0, 48.0), (28.0, 96.0), (64.0, 192.0), (128.0, float("inf")))


def assign(
    centres: torch.Tensor, boxes: torch.Tensor, stride: int, reach: tuple[float, float], radius: float = 1.5
) -> torch.Tensor:
    """The object each cell of a level answers for: int64 [N] with indices into `boxes`, -1 for none.

    A cell answers where its centre lies inside the box and within `radius` strides of the box's centre, and where its
    farthest side is within `reach`; of several objects the smallest wins (FCOS, Tian et al., ICCV 2019, 3.2; centre
    sampling as in its later version).
    centres: float32 [N, 2] pixels; boxes: float32 [M, 4] xyxy pixels.
    """
    if not len(boxes):
        return torch.full((len(centres),), -1, dtype=torch.int64, device=centres.device)
    sides = torch.cat([centres[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - centres[:, None]], dim=-1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = (centres[:, None] - middle[None]).abs().amax(dim=-1) <= radius * stride
    # The smallest objects cover no cell's centre: the nearest cell may answer from just outside.
    inside = (sides.amin(dim=-1) > 0) | (
        (sides.amin(dim=-1) > -stride / 2) & (sides.amax(dim=-1) < 2 * stride)
    )
    longest = sides.amax(dim=-1)
    candidates = near & inside & (longest >= reach[0]) & (longest <= reach[1])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    cost = area[None].expand(len(centres), -1).masked_fill(~candidates, float("inf"))
    best, index = cost.min(dim=1)
    return torch.where(torch.isfinite(best), index, -1)


def ignored_cells(centres: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """Cells whose centre lies in any of the areas (xyxy): bool [N]."""
    if not len(areas):
        return torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    x, y = centres[:, :1], centres[:, 1:]
    return ((x > areas[:, 0]) & (x < areas[:, 2]) & (y > areas[:, 1]) & (y < areas[:, 3])).any(dim=1)


def quality_focal(logits: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """|quality - sigmoid|^2 x binary cross-entropy, elementwise (Li et al., NeurIPS 2020, eq. 5)."""
    weight = (quality - logits.detach().sigmoid()).abs().pow(2)
    return weight * torch.nn.functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def dense_loss(
    levels: list[tuple[torch.Tensor, torch.Tensor]],
    centres: list[torch.Tensor],
    strides: tuple[int, ...],
    boxes: list[torch.Tensor],
    ignored: list[torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Objectness towards the IoU of the predicted box, plus (1 - GIoU) of the boxes that answer for an object.

    levels: (logits [B, N_l], boxes [B, N_l, 4] xyxy pixels) each; centres: [N_l, 2] each; boxes, ignored: one [M, 4]
    tensor an image. Both terms are sums over the batch over the number of answering cells (over ranks: `mean_count`).
    """
    logits = torch.cat([level[0] for level in levels], dim=1)
    predicted = torch.cat([level[1] for level in levels], dim=1)
    every = torch.cat(centres)
    objectness = logits.sum() * 0
    regression = predicted.sum() * 0
    positives = 0
    for index in range(len(logits)):
        owner = torch.cat(
            [
                assign(c, boxes[index], stride, reach)
                for c, stride, reach in zip(centres, strides, RANGES, strict=True)
            ]
        )
        answer = owner >= 0
        quality = torch.zeros_like(logits[index])
        if answer.any():
            own, target = predicted[index][answer], boxes[index][owner[answer]]
            quality[answer] = paired_iou(own.detach(), target)
            regression = regression + 2 * generalized_box_iou_loss(own, target, reduction="sum")
            positives += int(answer.sum())
        counted = answer | ~ignored_cells(every, ignored[index])
        objectness = objectness + quality_focal(logits[index], quality)[counted].sum()
    scale = 1.0 / mean_count(positives, logits.device)
    return {"objectness": objectness * scale, "box": regression * scale}


def paired_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of a[i] and b[i]: float32 [N] for two [N, 4] tensors of xyxy boxes."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = [(x[:, 2:] - x[:, :2]).clamp(min=0).prod(dim=1) for x in (a, b)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)
