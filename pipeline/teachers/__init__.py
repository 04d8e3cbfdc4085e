"""Teachers: region encoders and text encoders that share one embedding space.

`load(settings)` builds one by `settings.kind`; `describe(settings)` names it for the fingerprint without loading it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
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

    def encode_regions(
        self, images: list[np.ndarray], boxes_xyxy_norm: list[np.ndarray]
    ) -> list[torch.Tensor]:
        """uint8 [H, W, 3] RGB images and float32 [R_i, 4] boxes in [0, 1] -> float32 [R_i, D] each, on the CPU."""
        ...

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Texts -> float32 [len(texts), D], on the CPU; batched inside; [0, D] for no texts."""
        ...


def load(settings: TeacherSettings) -> Teacher:
    """The teacher that `settings.kind` names. Raises ValueError for an unknown kind or feature mode."""
    if settings.features not in ("roi", "crop"):
        raise ValueError(f"teacher.features: '{settings.features}' is neither roi nor crop")
    if settings.kind == "photo":
        from pipeline.teachers.photo import PhotoTeacher

        return PhotoTeacher(settings)
    if settings.kind == "open_clip":
        from pipeline.teachers.clip import ClipTeacher

        return ClipTeacher(settings)
    if settings.kind == "shapes":
        from pipeline.teachers.shapes import ShapesTeacher

        return ShapesTeacher(settings)
    raise ValueError(f"teacher.kind: '{settings.kind}' is not known (photo, shapes, open_clip)")


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """What of this teacher changes the embeddings, for the fingerprint; no model is loaded.

    kind, the model's name and tag, the sha256 of every weights file that is at hand, and the settings that change
    values or their rounding. The device and the batch size, which change the last bits at most, are left out.
    """
    said: dict[str, Any] = {
        "kind": settings.kind,
        "features": settings.features,
        "image_size": settings.image_size,
        "precision": settings.precision,
        "channels_last": settings.channels_last,
        "compile": settings.compile,
    }
    if settings.kind == "open_clip":
        said |= {"model": settings.model, "pretrained": settings.pretrained}
    return said | {"weights_sha256": {name: _sha256(path) for name, path in _weights(settings).items()}}


def _weights(settings: TeacherSettings) -> dict[str, str]:
    """The weights files that this teacher reads from this machine, by a name that does not hold their folder."""
    if settings.kind == "photo":
        from pipeline.teachers.imagenet import EMBEDDINGS
        from pipeline.teachers.photo import classifier_file
        from pipeline.teachers.sentences import minilm_folder

        return {
            "classifier": classifier_file(),
            "text": str(minilm_folder() / "model.safetensors"),
            "classes": str(EMBEDDINGS),
        }
    if settings.kind == "open_clip" and settings.pretrained and Path(settings.pretrained).is_file():
        return {"pretrained": settings.pretrained}
    if settings.kind == "shapes":
        return {
            path.name: str(path)
            for path in sorted((Path(__file__).parent / "weights").glob("shapes*.safetensors"))
        }
    return {}


@cache
def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
