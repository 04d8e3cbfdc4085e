"""Teachers: region encoders and text encoders that share one embedding space.

`load(settings)` builds one by `settings.kind`; `describe(settings)` names it for the fingerprint without loading it. A
kind is one module with these two functions, found in the table `KINDS` (pipeline/teachers/settings.py) or by an entry
point `regionpairs.teachers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pipeline.teachers.settings import KINDS, TeacherSettings

if TYPE_CHECKING:
    import numpy as np
    import torch


class Teacher(Protocol):
    """Encodes regions and texts. Embeddings are un-normalised float32; the caller normalises.

    dim: D, the width of the shared space.
    logit_scale: 1 / tau that this model was trained with (100.0 for CLIP).

    A teacher may also have `seen_size(height, width)`: the (height, width) at which it sees an image of that size. Then
    images of one such size come to `encode_regions` together, as far as a part has them.
    """

    dim: int
    logit_scale: float

    def encode_regions(
        self, images: list[np.ndarray], boxes_xyxy_norm: list[np.ndarray]
    ) -> list[torch.Tensor]:
        """uint8 [H, W, 3] RGB images and float32 [R_i, 4] boxes in [0, 1] -> float32 [R_i, D] each, on the CPU."""
        ...

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Texts -> float32 [len(texts), D], on the CPU; batched inside; [0, D] for no texts."""
        ...


def load(settings: TeacherSettings) -> Teacher:
    """The teacher that `settings.kind` names."""
    return KINDS.module(settings.kind).load(settings)


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """What of this teacher changes the embeddings, for the fingerprint, as JSON values; no model is loaded.

    The settings that change values or their rounding, and what the kind itself says: the model's name and tag, the
    sha256 of every weights file that is at hand. A user's kind adds its distribution and version. The device and the
    batch size, which change the last bits at most, are left out.
    """
    return {
        **KINDS.module(settings.kind).describe(settings),
        "kind": settings.kind,
        "features": settings.features,
        "image_size": settings.image_size,
        "precision": settings.precision,
        "channels_last": settings.channels_last,
        "compile": settings.compile,
        **KINDS.origin(settings.kind),
    }
