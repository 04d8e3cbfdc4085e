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
    objectness: float32 [R], raw logits, falling. 1 <= R <= max_proposals for every image that can be decoded.
    """

    boxes_xyxy_norm: np.ndarray
    objectness: np.ndarray


class Localizer(Protocol):
    """Proposes regions. A batch gives what its images give one at a time (padding does not leak)."""

    def __call__(self, images: list[np.ndarray]) -> list[Proposals]:
        """images: uint8 [H, W, 3] RGB arrays of any sizes -> one `Proposals` each. No gradient, no global RNG."""
        ...


def load(settings: LocalizerSettings, device: str = "cpu") -> Localizer:
    """The localizer that `settings.kind` names, ready to run on `device`. Raises ValueError for an unknown kind."""
    if settings.kind == "grid":
        from pipeline.localizers.grid import Grid

        return Grid(settings.max_proposals)
    raise ValueError(f"localizer.kind: '{settings.kind}' is not known")


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """What of this localizer changes the boxes: kind, settings and the sha256 of its weights file."""
    return {
        "kind": settings.kind,
        "max_proposals": settings.max_proposals,
        "nms_iou": settings.nms_iou,
        "pre_nms_top_n": settings.pre_nms_top_n,
        "weights_sha256": None,
    }
