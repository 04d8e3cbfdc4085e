"""From a network's raw boxes and logits to proposals. Pure functions on tensors."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import nms

from pipeline.localizers import Proposals

#: Objectness of the whole-image box that stands in where a network offers no usable box (sigmoid: 2e-9).
FALLBACK_LOGIT = -20.0


def whole_image() -> Proposals:
    """One box over the whole image at `FALLBACK_LOGIT`: what an image without any usable box gets."""
    return Proposals(np.asarray([[0, 0, 1, 1]], np.float32), np.asarray([FALLBACK_LOGIT], np.float32))


def usable(
    boxes: torch.Tensor, logits: torch.Tensor, width: float, height: float
) -> tuple[torch.Tensor, ...]:
    """Clips float boxes [N, 4] (xyxy, pixels) to [0, width] x [0, height]; drops non-finite and empty ones.

    Minimum size 0: a box stays if it has any area (PARITY 10; detectron2's `find_top_rpn_proposals`).
    """
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    boxes, logits = boxes[finite], logits[finite]
    x = boxes[:, 0::2].clamp(0, width)
    y = boxes[:, 1::2].clamp(0, height)
    boxes = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[kept], logits[kept]


def select_proposals(
    levels: list[tuple[torch.Tensor, torch.Tensor]],
    width: float,
    height: float,
    *,
    pre_nms_top_n: int,
    nms_iou: float | None,
    max_proposals: int,
) -> Proposals:
    """RPN post-processing: top n a level, clip, drop empty boxes, NMS a level, best `max_proposals` of all levels.

    levels: (boxes float [N_l, 4] xyxy in pixels, raw logits [N_l]) a pyramid level.
    width, height: extent in pixels of the image itself, without padding.
    nms_iou: None for set predictors, which need no NMS.
    Ties fall to the lower index of the finer level. No score threshold. (Ren et al., Faster R-CNN, NeurIPS 2015;
    FPN, CVPR 2017; PARITY 10-11.)
    """
    kept_boxes, kept_logits = [], []
    for boxes, logits in levels:
        logits, order = logits.float().sort(descending=True, stable=True)
        top = order[:pre_nms_top_n]
        boxes, logits = usable(boxes[top].float(), logits[:pre_nms_top_n], width, height)
        if nms_iou is not None and len(boxes):
            kept = nms(boxes, logits, nms_iou)
            boxes, logits = boxes[kept], logits[kept]
        kept_boxes.append(boxes)
        kept_logits.append(logits)
    boxes, logits = torch.cat(kept_boxes), torch.cat(kept_logits)
    logits, order = logits.sort(descending=True, stable=True)
    scale = torch.tensor([width, height, width, height], dtype=torch.float64)
    norm = (boxes[order].cpu().double() / scale).clamp(0, 1).float().numpy()
    # A box of positive area in pixels can round to none in float32 of [0, 1].
    solid = (norm[:, 2] > norm[:, 0]) & (norm[:, 3] > norm[:, 1])
    norm, scores = norm[solid][:max_proposals], logits.cpu().numpy()[solid][:max_proposals]
    return Proposals(norm, scores.astype(np.float32)) if len(norm) else whole_image()
