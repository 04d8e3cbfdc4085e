"""Settings of every measurement: on what, of what, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.localizers.settings import LocalizerSettings
from pipeline.teachers.settings import TeacherSettings
from world import scenes

Fusion = Literal["sqrt-logit", "sqrt-sigmoid", "none"]


@dataclass(frozen=True)
class TruthSettings:
    """Which images with known objects to measure on.

    Attributes:
        kind: shapes (synthetic scenes) | coco (a folder of images and an instances JSON; LVIS's too)
        seed: seed of the scenes (kind: shapes)
        first: number of the first scene (kind: shapes)
        count: number of scenes (kind: shapes; 0: 500); of images, in the file's order (kind: coco; 0: all)
        size: side of a scene in pixels (kind: shapes)
        images: folder of the images (kind: coco)
        instances: instances JSON (kind: coco)
        captions: captions JSON, for retrieval (kind: coco); none: no retrieval
        classes: all | ovr (COCO's 48 base and 17 novel names; the other 15 are left out)
        uncaptioned: only images that the captions JSON does not name (kind: coco), e.g. those no pair was made of
    """

    kind: Literal["shapes", "coco"] = "shapes"
    seed: int = 900
    first: int = 0
    count: int = 0
    size: int = scenes.SIZE
    images: str | None = None
    instances: str | None = None
    captions: str | None = None
    classes: Literal["all", "ovr"] = "all"
    uncaptioned: bool = False

    def __post_init__(self) -> None:
        if self.kind == "coco" and not (self.images and self.instances):
            raise ValueError("truth.images and truth.instances: kind coco needs both")
        if self.uncaptioned and not self.captions:
            raise ValueError("truth.captions: uncaptioned needs the captions JSON that names the others")
        if self.count < 0:
            raise ValueError(f"truth.count: must not be negative, is {self.count}")


@dataclass(frozen=True)
class DetectionSettings:
    """How scored regions become detections. The defaults are RegionCLIP's for COCO.

    Attributes:
        threshold: lowest score of a detection (0.001 COCO; LVIS: 0.0001 on ground-truth boxes, 0.02 on proposals)
        class_nms: IoU above which the weaker of two detections of one class is dropped
        proposal_nms: IoU above which the weaker of two proposals is dropped
        max_proposals: proposals scored an image
        max_detections: detections kept an image (100 COCO, 300 LVIS)
        fusion: sqrt-logit (p and the raw objectness logit, negative logits dropped) | sqrt-sigmoid | none
    """

    threshold: float = 0.001
    class_nms: float = 0.5
    proposal_nms: float = 0.9
    max_proposals: int = 1000
    max_detections: int = 100
    fusion: Fusion = "sqrt-logit"

    def __post_init__(self) -> None:
        for name in ("threshold", "class_nms", "proposal_nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"detection.{name}: must be in [0, 1], is {getattr(self, name)}")
        if self.max_proposals < 1 or self.max_detections < 1:
            raise ValueError("detection.max_proposals, detection.max_detections: must be at least 1")


@dataclass(frozen=True)
class EvaluateSettings:
    """What to measure, and on what.

    Attributes:
        out: file of the JSON report; none: only printed
        dataset: folder or URL of a built dataset whose pairs are measured; none: a model is measured
        student: a trained student, its folder or its student.safetensors, in the place of the teacher's image tower
        tau: temperature of the softmax; 0: what the teacher was trained with
        proposals: also measure on the localizer's proposals: recall and detection
        templates: text file of prompts; none: the 81 of RegionCLIP
        batch_images: images in one pass
        threads: torch threads; 0: torch's own choice
    """

    out: str | None = None
    dataset: str | None = None
    student: str | None = None
    tau: float = 0.0
    proposals: bool = False
    templates: str | None = None
    batch_images: int = 16
    threads: int = 0
    truth: TruthSettings = field(default_factory=TruthSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    localizer: LocalizerSettings = field(default_factory=LocalizerSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise ValueError(f"tau: must not be negative, is {self.tau}")
        if self.batch_images < 1:
            raise ValueError(f"batch_images: must be at least 1, is {self.batch_images}")
        if self.dataset and (self.student or self.proposals):
            raise ValueError(
                "dataset: measures the pairs of a dataset; student and proposals measure a model"
            )
