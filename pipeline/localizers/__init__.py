"""Localizers: images in, class-agnostic proposals out.

`load(settings, device)` builds one by `settings.kind`; `describe(settings)` names it for the fingerprint without
loading it. A kind is one module with these two functions, found in the table `KINDS` (pipeline/localizers/settings.py)
or by an entry point `regionpairs.localizers`. Every localizer keeps the one contract of `Localizer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.localizers.settings import KINDS, LocalizerSettings

if TYPE_CHECKING:
    import numpy as np


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
    return KINDS.module(settings.kind).load(settings, device)


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """What of this localizer changes the boxes, as JSON values: kind, settings and the sha256 of its weights.

    A user's kind adds its distribution and version.
    """
    said = KINDS.module(settings.kind).describe(settings)
    return {**said, "kind": settings.kind, **KINDS.origin(settings.kind)}
