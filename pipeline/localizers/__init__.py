"""Localizers: images in, class-agnostic proposals out.

`load(settings, device)` builds one by `settings.kind`; `describe(settings)` names it for the fingerprint without
loading it. Every localizer keeps the one contract of `Localizer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.localizers.settings import LocalizerSettings


@dataclass(frozen=True)
class Proposals:
    """Boxes of one image.

    boxes_xyxy_norm: float32 [R, 4], in [0, 1] of the upright image, x0 < x1 and y0 < y1.
    objectness: float32 [R], raw logits, falling, finite. 1 <= R <= max_proposals for every image: one without any
    usable box (an image of no pixels, a network that gives NaN) gets the whole image at logit -20.
    """

    boxes_xyxy_norm: np.ndarray
    objectness: np.ndarray


class Localizer(Protocol):
    """Proposes regions. A batch gives what its images give one at a time (padding does not leak)."""

    def __call__(self, images: list[np.ndarray], keys: list[str] | None = None) -> list[Proposals]:
        """images: uint8 [H, W, 3] RGB arrays of any sizes -> one `Proposals` each. No gradient, no global RNG.

        keys: the images' source keys; only `ground-truth` reads them, and it raises ValueError without them.
        """
        ...


def load(settings: LocalizerSettings, device: str = "cpu") -> Localizer:
    """The localizer that `settings.kind` names, ready to run on `device`."""
    if settings.kind == "grid":
        from pipeline.localizers.grid import Grid

        return Grid(settings.max_proposals)
    if settings.kind == "rpn-lite":
        from pipeline.localizers.rpn_lite import load_rpn_lite

        return load_rpn_lite(settings, device)
    if settings.kind == "rpn":
        from pipeline.localizers.rpn import load_rpn

        return load_rpn(settings, device)
    if settings.kind in ("detr", "dab-detr", "dn-detr"):
        from pipeline.localizers.set_network import load_set_predictor

        return load_set_predictor(settings, device)
    from pipeline.localizers.truth import load_truth

    return load_truth(settings)


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """What of this localizer changes the boxes: kind, settings and the sha256 of its weights (or truth) file."""
    from pipeline.localizers.identity import weights_identity

    out: dict[str, Any] = {"kind": settings.kind, "max_proposals": settings.max_proposals}
    if settings.kind in ("rpn", "rpn-lite"):
        out |= {"nms_iou": settings.nms_iou, "pre_nms_top_n": settings.pre_nms_top_n}
    if settings.kind not in ("grid", "ground-truth"):
        out["image_size"] = settings.image_size
    if settings.kind == "rpn":
        out["architecture"] = settings.architecture
    out["weights"] = weights_identity(settings)
    return out
