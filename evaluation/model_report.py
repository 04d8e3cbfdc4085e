"""A teacher or a student, run once over a truth set; every zero-shot figure follows from the embeddings."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch

import storage
from concept_pool.embed import embed_pool
from evaluation.metrics import detection, zero_shot
from evaluation.truth import TrueImage, TruthSet
from pipeline import teachers
from pipeline.localizers import Localizer
from pipeline.networks.weights_files import load_into, of_student
from pipeline.standing import Standing, tell
from pipeline.teachers import Teacher
from pipeline.teachers.settings import TeacherSettings

_WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)


@dataclass(frozen=True)
class Embedded:
    """A truth set through a model. R regions (true boxes), N images, T captions, C class names.

    regions [R, D], labels int [R], image_of_region int [R]; images [N, D] (full boxes); captions [T, D],
    image_of_caption int [T]; classes [C, D].
    """

    regions: torch.Tensor
    labels: np.ndarray
    image_of_region: np.ndarray
    images: torch.Tensor
    captions: torch.Tensor
    image_of_caption: np.ndarray
    classes: torch.Tensor


def load_student(settings: TeacherSettings, checkpoint: str | None) -> Teacher:
    """The teacher, its image tower replaced by a student's (a file, or a run's folder) where one is named.

    Raises ValueError for a student whose run says that it began as another kind of teacher.
    """
    checkpoint = of_student(checkpoint) if checkpoint else None
    kind = _kind_of(checkpoint) if checkpoint else None
    if kind not in (None, settings.kind, "student"):
        raise ValueError(
            f"teacher.kind: the student began as the teacher '{kind}', not '{settings.kind}'; "
            f"give --teacher.kind {kind}, and what else of that teacher its run's settings.json names"
        )
    teacher = teachers.load(settings)
    if checkpoint:
        tower = getattr(teacher, "tower", None)
        if tower is None:
            raise ValueError(
                f"teacher.kind '{settings.kind}' has no image tower that a student could replace"
            )
        load_into(tower.encoder, checkpoint)
    return teacher


def _kind_of(checkpoint: str) -> str | None:
    """The kind of teacher that a student began as, by the settings of its run beside it; None where there are none."""
    beside = storage.join(checkpoint.rpartition("/")[0] or ".", "settings.json")
    try:
        return str(json.loads(storage.read_bytes(storage.absolute(beside)))["student"]["encoder"]["kind"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def embed(
    model: Teacher,
    truth: TruthSet,
    templates: list[str],
    batch_images: int = 16,
    texts_of: Embedded | None = None,
) -> Embedded:
    """Every true box, whole image, caption and class name of the set.

    texts_of: another model's embeddings of the same set, whose text tower this model shares.
    """
    regions, images = [], []
    for start in range(0, len(truth.images), batch_images):
        batch = truth.images[start : start + batch_images]
        tell(Standing("embeddings of true boxes", "images", start, len(truth.images)))
        boxes = [np.concatenate([image.boxes_xyxy_norm, _WHOLE]) for image in batch]
        for embeddings in model.encode_regions([image.load() for image in batch], boxes):
            regions.append(embeddings[:-1])
            images.append(embeddings[-1])
    sizes = [len(image.labels) for image in truth.images]
    if texts_of is None:
        tell(Standing("embeddings of captions and class names"))
        captions = model.encode_text([text for image in truth.images for text in image.captions])
        classes = torch.from_numpy(embed_pool(truth.names, templates, model.encode_text))
    else:
        captions, classes = texts_of.captions, texts_of.classes
    texts = [len(image.captions) for image in truth.images]
    return Embedded(
        torch.cat(regions),
        np.concatenate([image.labels for image in truth.images]),
        np.repeat(np.arange(len(sizes)), sizes),
        torch.stack(images),
        captions,
        np.repeat(np.arange(len(texts)), texts),
        classes,
    )


def zero_shot_report(e: Embedded, truth: TruthSet, tau: float) -> dict:
    """Region accuracy by split, AP50 on the true boxes, whole-image accuracy and retrieval."""
    scores = zero_shot.class_scores(e.regions, e.classes, tau)
    present = np.zeros((len(truth.images), len(truth.names)), bool)
    present[e.image_of_region, e.labels] = True
    whole = zero_shot.class_scores(e.images, e.classes, tau)
    report = {
        "n_images": len(truth.images),
        "n_regions": len(e.labels),
        "regions": zero_shot.accuracy_by_split(scores, e.labels, truth.novel),
        "scenes": zero_shot.scene_accuracy(whole, present),
        "detection_on_true_boxes": _detection(truth, scores, e.image_of_region),
    }
    if len(e.captions):
        report["retrieval"] = zero_shot.retrieval(e.images, e.captions, e.image_of_caption)
    return report


def _detection(truth: TruthSet, scores: np.ndarray, image_of_region: np.ndarray) -> dict:
    settings = detection.DetectionSettings(fusion="none")
    found, true = [], []
    for index, image in enumerate(truth.images):
        # Overlaps and areas only matter as ratios, so a unit image of 1000 px will do.
        boxes = image.boxes_xyxy_norm * 1000
        true.append(detection.TrueBoxes(boxes, image.labels, 1000, 1000))
        found.append(detection.detect(boxes, scores[image_of_region == index], settings))
    return detection.coco_ap(true, found, truth.names, truth.novel)


def detection_on_proposals(
    model: Teacher,
    localizer: Localizer,
    truth: TruthSet,
    classes: torch.Tensor,
    tau: float,
    settings: detection.DetectionSettings,
    batch_images: int = 8,
) -> dict[str, dict]:
    """AP of classified proposals, with RegionCLIP's score fusion and with the sigmoid's, apart."""
    found: dict[detection.Fusion, list[detection.Detections]] = {"sqrt-logit": [], "sqrt-sigmoid": []}
    true: list[detection.TrueBoxes] = []
    for start in range(0, len(truth.images), batch_images):
        batch = truth.images[start : start + batch_images]
        tell(Standing("detection", "images", start, len(truth.images)))
        pixels = [image.load() for image in batch]
        proposals = localizer(pixels, [image.key for image in batch])
        kept = [detection.propose(p.boxes_xyxy_norm, p.objectness, settings) for p in proposals]
        boxes = [p.boxes_xyxy_norm[k] for p, k in zip(proposals, kept, strict=True)]
        for image, p, k, b, regions in zip(
            batch, proposals, kept, boxes, model.encode_regions(pixels, boxes), strict=True
        ):
            true.append(_true_boxes(image))
            scores = zero_shot.class_scores(regions, classes, tau)
            for fusion, results in found.items():
                fused = detection.fuse(scores, p.objectness[k], fusion)
                results.append(detection.detect(b * 1000, fused, settings))
    return {
        fusion: detection.coco_ap(true, results, truth.names, truth.novel)
        for fusion, results in found.items()
    }


def _true_boxes(image: TrueImage) -> detection.TrueBoxes:
    return detection.TrueBoxes(image.boxes_xyxy_norm * 1000, image.labels, 1000, 1000)
