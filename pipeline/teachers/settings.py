"""Settings of the teacher room, and its table of kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.kinds import Kinds

#: Every kind and its module.
KINDS = Kinds(
    "teacher.kind",
    "regionpairs.teachers",
    {
        "photo": "pipeline.teachers.photo",
        "shapes": "pipeline.teachers.shapes",
        "open_clip": "pipeline.teachers.clip",
        "student": "pipeline.teachers.student",
    },
)
FEATURES = ("roi", "crop")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TeacherSettings:
    """The model that matches regions to concepts.

    Attributes:
        kind: photo (EfficientNet-Lite0 + MiniLM, offline) | shapes (embedded, for synthetic scenes) | open_clip | student (a checkpoint of the trainer) | one that an installed package offers (entry point regionpairs.teachers)
        model: open_clip model name, e.g. RN50 or ViT-B-16 (kind: open_clip)
        pretrained: open_clip pretrained tag or checkpoint path; none: random weights from seed 0 (kind: open_clip)
        checkpoint: student.safetensors of a training run (kind: student)
        base: kind of the model that the student started as; its own settings are the other keys here (kind: student)
        device: torch device of localizer and teacher: cpu | cuda | cuda:0 | auto
        features: roi (one encoder pass an image) | crop (one pass a region; slow, the reference)
        image_size: short side in pixels of the image the teacher sees; 0: the teacher's own default
        precision: fp32 | bf16 | fp16
        batch_images: images in one encoder pass
        channels_last: lay tensors out channels last (faster for convolutions on CPUs and GPUs)
        compile: run the encoder through torch.compile (a minute at the start)
        resize_threads: threads that resize the next images while the encoder runs, outside of a build, whose decode threads do it; 0: none
        options: whatever a kind of an installed package takes besides (a mapping); our own kinds take none
    """  # noqa: E501 - one line a key: it becomes --help

    kind: str = "shapes"
    model: str = "RN50"
    pretrained: str | None = None
    checkpoint: str | None = None
    base: str = "shapes"
    device: str = "cpu"
    features: str = "roi"
    image_size: int = 0
    precision: str = "fp32"
    batch_images: int = 8
    channels_last: bool = True
    compile: bool = False
    resize_threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        KINDS.check(self.kind)
        if self.features not in FEATURES:
            raise ValueError(f"teacher.features: '{self.features}' is neither roi nor crop")
        if self.precision not in PRECISIONS:
            raise ValueError(f"teacher.precision: '{self.precision}' is none of {', '.join(PRECISIONS)}")
        if not self.device:
            raise ValueError("teacher.device: is empty")
        if not 0 <= self.image_size <= 4096:
            raise ValueError(f"teacher.image_size: must be in [0, 4096], is {self.image_size}")
        if self.batch_images < 1:
            raise ValueError(f"teacher.batch_images: must be at least 1, is {self.batch_images}")
        if self.resize_threads < 0:
            raise ValueError(f"teacher.resize_threads: must not be negative, is {self.resize_threads}")
        if (self.kind == "student") != bool(self.checkpoint):
            raise ValueError("teacher.checkpoint: kind student needs one, and no other kind takes one")
        if self.kind == "student":
            self._check_student()
        model = self.base if self.kind == "student" else self.kind
        if self.options and KINDS.is_ours(model):
            raise ValueError(f"teacher.options: kind {model} takes none")

    def _check_student(self) -> None:
        KINDS.check(self.base)
        if self.base == "student":
            raise ValueError("teacher.base: is the kind that the first student started as, not a student")
        if self.features != "roi":
            raise ValueError("teacher.features: a student was trained on roi, and crop would not use it")
