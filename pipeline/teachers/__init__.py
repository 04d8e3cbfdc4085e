"""Teachers: region encoders and text encoders that share one embedding space.

`load(settings)` builds one by `settings.kind`; `describe(settings)` names it for the fingerprint without loading it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from pipeline.teachers.settings import TeacherSettings


class Teacher(Protocol):
    """Encodes regions and texts. Embeddings are un-normalised float32; the caller normalises.

    dim: D, the width of the shared space.
    logit_scale: 1 / tau that this model was trained with (100.0 for CLIP).
    """

    dim: int
    logit_scale: float

    def encode_regions(self, images: list[np.ndarray], boxes_xyxy_norm: list[np.ndarray]) -> list[torch.Tensor]:
        """uint8 [H, W, 3] RGB images and float32 [R_i, 4] boxes in [0, 1] -> float32 [R_i, D] each, on the CPU."""
        ...

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Texts -> float32 [len(texts), D], on the CPU; batched inside; [0, D] for no texts."""
        ...


def load(settings: TeacherSettings) -> Teacher:
    """The teacher that `settings.kind` names. Raises ValueError for an unknown kind."""
    raise ValueError(f"teacher.kind: '{settings.kind}' is not known")


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """What of this teacher changes the embeddings: kind, settings, and the sha256 of its weights file if local."""
    return {"kind": settings.kind}
