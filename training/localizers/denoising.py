"""Denoising queries: noised true boxes that the decoder must restore without matching (DN-DETR, Li et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.localizers.dab_detr import NO_OBJECT, OBJECT
from pipeline.localizers.set_network import Denoising, SetPrediction
from training.localizers.settings import DenoisingSettings


@dataclass(frozen=True)
class DenoisingTargets:
    """What each denoising query must restore.

    boxes: float32 [B, D, 4], the true boxes. real: bool [B, D], False where a query only fills up the row.
    """

    boxes: torch.Tensor
    real: torch.Tensor


def noise_boxes(boxes: torch.Tensor, settings: DenoisingSettings, generator: torch.Generator) -> torch.Tensor:
    """Shifts and scales boxes (centre x, y, width, height in [0, 1]): |dx| < shift w / 2, |dy| < shift h / 2, width and
    height by factors in [1 - scale, 1 + scale] (4.2). A shifted centre stays inside its box for shift < 1."""
    draw = torch.rand(boxes.shape, generator=generator).to(boxes.device) * 2 - 1
    centre = boxes[..., :2] + draw[..., :2] * settings.shift * boxes[..., 2:] / 2
    size = boxes[..., 2:] * (1 + draw[..., 2:] * settings.scale)
    return torch.cat([centre, size], dim=-1).clamp(0.0, 1.0)


def hidden_pairs(per_group: int, groups: int, queries: int) -> torch.Tensor:
    """Which query must not see which: bool [D + Q, D + Q] with D = groups * per_group, True = hidden.

    Matching queries see no denoising query, and a group sees no other group; a denoising query may see the matching
    ones, which know nothing of the truth (4.3).
    """
    total = groups * per_group + queries
    group = torch.full((total,), -1)
    group[: groups * per_group] = torch.arange(groups).repeat_interleave(per_group)
    viewer, seen = group[:, None], group[None, :]
    return (seen >= 0) & (viewer != seen)


def denoising_queries(
    objects: list[torch.Tensor], queries: int, settings: DenoisingSettings, generator: torch.Generator
) -> tuple[Denoising, DenoisingTargets] | None:
    """Noised groups for a batch, padded to its largest count of objects, or to one where no image has any: then all of
    them are filler, and the parameters that make queries still get a gradient (of 0), as DDP wants it of every worker.
    None where there shall be no groups.

    objects: one [M, 4] tensor an image, centre x, y, width, height in [0, 1].
    """
    if settings.groups == 0:
        return None
    most = max(1, *(len(o) for o in objects))
    device = objects[0].device
    # Padding rows get a plain box: a zero-sized one would divide by zero in the decoder's width/height modulation.
    boxes = torch.full((len(objects), most, 4), 0.5, device=device)
    real = torch.zeros(len(objects), most, dtype=torch.bool, device=device)
    for index, of_image in enumerate(objects):
        boxes[index, : len(of_image)] = of_image
        real[index, : len(of_image)] = True
    boxes, real = boxes.repeat(1, settings.groups, 1), real.repeat(1, settings.groups)
    flipped = torch.rand(real.shape, generator=generator).to(device) < settings.flip
    labels = torch.where(flipped, NO_OBJECT, OBJECT)
    noised = noise_boxes(boxes, settings, generator)
    hidden = hidden_pairs(most, settings.groups, queries).to(device)
    return Denoising(labels, noised, hidden), DenoisingTargets(boxes, real)


def split(prediction: SetPrediction, count: int) -> tuple[SetPrediction, SetPrediction]:
    """(predictions of the first `count` denoising queries, of the matching ones)."""
    first = SetPrediction(prediction.logits[:, :, :count], prediction.boxes[:, :, :count])
    rest = SetPrediction(prediction.logits[:, :, count:], prediction.boxes[:, :, count:])
    return first, rest
