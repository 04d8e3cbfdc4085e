"""Settings of the localizer room, and its table of kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.kinds import Kinds

#: Every kind and its module, the cheapest first.
KINDS = Kinds(
    "localizer.kind",
    "regionpairs.localizers",
    {
        "grid": "pipeline.localizers.grid",
        "rpn-lite": "pipeline.localizers.rpn_lite",
        "rpn": "pipeline.localizers.rpn",
        "detr": "pipeline.localizers.set_predictors",
        "dab-detr": "pipeline.localizers.set_predictors",
        "dn-detr": "pipeline.localizers.set_predictors",
        "ground-truth": "pipeline.localizers.truth",
    },
)
ARCHITECTURES = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")


@dataclass(frozen=True)
class LocalizerSettings:
    """Where the boxes come from.

    Attributes:
        kind: grid | rpn-lite | rpn | detr | dab-detr | dn-detr | ground-truth | one that an installed package offers (entry point regionpairs.localizers)
        checkpoint: weights of this localizer (.safetensors or a .pth state dict; path or URL); random:SEED for untrained ones; none: its published weights
        max_proposals: boxes kept an image, best objectness first
        nms_iou: overlap above which the weaker of two proposals of a pyramid level is dropped (rpn, rpn-lite)
        pre_nms_top_n: boxes kept a pyramid level before NMS (rpn, rpn-lite)
        architecture: torchvision detector whose RPN is used: fasterrcnn_resnet50_fpn | fasterrcnn_resnet50_fpn_v2 (kind: rpn)
        image_size: short side in pixels of the image that the network sees; 0: the network's own default
        truth: COCO instances JSON (path or URL) with the true boxes (kind: ground-truth); none: the synthetic scenes' own
        options: whatever a kind of an installed package takes besides (a mapping); our own kinds take none
    """  # noqa: E501 - one line a key: it becomes --help

    kind: str = "rpn-lite"
    checkpoint: str | None = None
    max_proposals: int = 100
    nms_iou: float = 0.5
    pre_nms_top_n: int = 1000
    architecture: str = "fasterrcnn_resnet50_fpn"
    image_size: int = 0
    truth: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        KINDS.check(self.kind)
        if self.max_proposals < 1:
            raise ValueError(f"localizer.max_proposals: must be at least 1, is {self.max_proposals}")
        if self.pre_nms_top_n < 1:
            raise ValueError(f"localizer.pre_nms_top_n: must be at least 1, is {self.pre_nms_top_n}")
        if not 0.0 < self.nms_iou <= 1.0:
            raise ValueError(f"localizer.nms_iou: must be in (0, 1], is {self.nms_iou}")
        if not 0 <= self.image_size <= 4096:
            raise ValueError(f"localizer.image_size: must be in [0, 4096], is {self.image_size}")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"localizer.architecture: '{self.architecture}' is none of {', '.join(ARCHITECTURES)}"
            )
        if self.options and KINDS.is_ours(self.kind):
            raise ValueError(f"localizer.options: kind {self.kind} takes none")
