"""Settings of the localizer room."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalizerSettings:
    """Where the boxes come from.

    Attributes:
        kind: grid | rpn-lite | rpn | detr | dab-detr | dn-detr | ground-truth
        checkpoint: safetensors or torchvision weights of this localizer (path or URL); none: its published weights
        max_proposals: boxes kept an image, best objectness first
        nms_iou: overlap above which the weaker of two proposals is dropped
        pre_nms_top_n: boxes kept a pyramid level before NMS
    """

    kind: str = "rpn-lite"
    checkpoint: str | None = None
    max_proposals: int = 100
    nms_iou: float = 0.5
    pre_nms_top_n: int = 1000
