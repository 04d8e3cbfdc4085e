"""A trained student as a teacher: the image tower of a checkpoint on the text side of the model that it started as.

Students of one teacher share its text embeddings (no text tower is trained), so a dataset that a student labels has the
concept embeddings of its teacher's. That is what self-training rounds need.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import storage
from pipeline.networks.weights_files import load_into
from pipeline.teachers.settings import KINDS, TeacherSettings


def load(settings: TeacherSettings) -> Any:
    """The teacher of kind `settings.base`, its image tower filled from `settings.checkpoint`.

    Raises ValueError where that kind has no image tower that could be trained, or the file is no checkpoint of it.
    """
    teacher = KINDS.module(settings.base).load(_base(settings))
    tower = getattr(teacher, "tower", None)
    if tower is None:
        hint = "; teacher.pretrained takes the run's open_clip.safetensors" * (settings.base == "open_clip")
        raise ValueError(
            f"teacher.base: '{settings.base}' has no image tower that a student could replace{hint}"
        )
    load_into(tower.encoder, storage.absolute(str(settings.checkpoint)))
    return teacher


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """What the base kind says of itself, and the sha256 of the checkpoint."""
    said = KINDS.module(settings.base).describe(_base(settings))
    checkpoint = storage.sha256(storage.absolute(str(settings.checkpoint)))
    weights = {**said.get("weights_sha256", {}), "checkpoint": checkpoint}
    return {**said, "base": settings.base, **KINDS.origin(settings.base), "weights_sha256": weights}


def _base(settings: TeacherSettings) -> TeacherSettings:
    return replace(settings, kind=settings.base, base="shapes", checkpoint=None)
