"""Settings of the localizer room."""

from __future__ import annotations

from dataclasses import dataclass

#: Every kind, the cheapest first.
KINDS = ("grid", "rpn-lite", "rpn", "detr", "dab-detr", "dn-detr", "ground-truth")


@dataclass(frozen=True)
class LocalizerSettings:
    """Where the boxes come from.

    Attributes:
        kind: grid | rpn-lite | rpn | detr | dab-detr | dn-detr | ground-truth
        checkpoint: weights of this localizer (.safetensors or a .pth state dict; path or URL); random:SEED for untrained ones; none: its published weights
        max_proposals: boxes kept an image, best objectness first
        nms_iou: overlap above which the weaker of two proposals of a pyramid level is dropped (rpn, rpn-lite)
        pre_nms_top_n: boxes kept a pyramid level before NMS (rpn, rpn-lite)
        architecture: torchvision detector whose RPN is used: fasterrcnn_resnet50_fpn | fasterrcnn_resnet50_fpn_v2 (kind: rpn)
        image_size: short side in pixels of the image that the network sees; 0: the network's own default
        truth: COCO instances JSON (path or URL) with the true boxes (kind: ground-truth); none: the synthetic scenes' own
    """  # noqa: E501 - one line a key: it becomes --help

    kind: str = "rpn-lite"
    checkpoint: str | None = None
    max_proposals: int = 100
    nms_iou: float = 0.5
    pre_nms_top_n: int = 1000
    architecture: str = "fasterrcnn_resnet50_fpn"
    image_size: int = 0
    truth: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"localizer.kind must be one of {list(KINDS)}, not '{self.kind}'")
        if self.max_proposals < 1:
            raise ValueError(f"localizer.max_proposals must be at least 1, not {self.max_proposals}")
        if self.pre_nms_top_n < 1:
            raise ValueError(f"localizer.pre_nms_top_n must be at least 1, not {self.pre_nms_top_n}")
        if not 0.0 < self.nms_iou <= 1.0:
            raise ValueError(f"localizer.nms_iou must be in (0, 1], not {self.nms_iou}")
        if self.image_size < 0 or self.image_size > 4096:
            raise ValueError(f"localizer.image_size must be in [0, 4096], not {self.image_size}")
