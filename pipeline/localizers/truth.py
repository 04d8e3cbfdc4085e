"""The true boxes as proposals: an upper bound for everything downstream."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

import storage
from pipeline.coco import CocoBox, CocoImage, read_coco
from pipeline.localizers import Proposals
from pipeline.localizers.select import whole_image
from pipeline.localizers.settings import LocalizerSettings
from world import scenes

#: Objectness of a true box (sigmoid: 0.99995).
TRUE_LOGIT = 10.0


class GroundTruth:
    """Looks boxes up by source key. An image without any gets the whole-image box.

    boxes: name -> float32 [R, 4] boxes, xyxy in [0, 1]. A source key is looked up as it is, then by its last path
    segment, then without its extension (`coco/000000493652.jpg` -> `000000493652`).
    """

    def __init__(self, boxes: dict[str, np.ndarray], max_proposals: int):
        self._boxes = boxes
        self._max_proposals = max_proposals

    def __call__(self, images: list[np.ndarray], keys: list[str] | None = None) -> list[Proposals]:
        return [self._of(key) for key in _checked(images, keys)]

    def _of(self, key: str) -> Proposals:
        path = PurePosixPath(key)
        for name in (key, path.name, path.stem):
            if name in self._boxes:
                return as_proposals(self._boxes[name], self._max_proposals)
        raise ValueError(f"ground-truth: no boxes are known for '{key}'")


def read_coco_boxes(url: str) -> dict[str, np.ndarray]:
    """COCO instances JSON -> boxes by file name, and by its last segment, its stem and the image id.

    Largest first, crowds left out. A name that two images share means neither; a file name always means its own image.
    Images of unknown size are left out. Raises ValueError for a file that is no COCO file.
    """
    coco = read_coco(url)
    known = [image for image in coco.images if not image.problem and image.width and image.height]
    short: dict[str, list[str]] = {}
    for image in known:
        path = PurePosixPath(image.file_name)
        for name in {path.name, path.stem, image.id}:
            short.setdefault(name, []).append(image.file_name)
    boxes = {image.file_name: _largest_first(image, coco.boxes.get(image.id, [])) for image in known}
    return {name: boxes[owners[0]] for name, owners in short.items() if len(owners) == 1} | boxes


def _largest_first(image: CocoImage, annotations: list[CocoBox]) -> np.ndarray:
    """float32 [R, 4], xyxy in [0, 1]; the boxes that have an area inside the image."""
    found = []
    for position, annotation in enumerate(annotations):
        x, y, w, h = annotation.xywh
        corners = [x / image.width, y / image.height, (x + w) / image.width, (y + h) / image.height]
        box = np.clip(corners, 0, 1).astype(np.float32)
        if not annotation.crowd and box[2] > box[0] and box[3] > box[1]:
            order = int(annotation.id) if annotation.id.lstrip("-").isdecimal() else position
            found.append((-w * h, order, box.tolist()))
    return np.asarray([box for _, _, box in sorted(found)], np.float32).reshape(-1, 4)


class SceneTruth:
    """The boxes of the synthetic scenes, from their source keys (`shapes-SEED-INDEX`)."""

    def __init__(self, max_proposals: int):
        self._max_proposals = max_proposals

    def __call__(self, images: list[np.ndarray], keys: list[str] | None = None) -> list[Proposals]:
        return [self._of(key) for key in _checked(images, keys)]

    def _of(self, key: str) -> Proposals:
        match = re.fullmatch(r"shapes-(-?\d+)-(\d+)", key)
        if match is None:
            raise ValueError(
                f"ground-truth: '{key}' is no synthetic scene; give localizer.truth for other images"
            )
        boxes, _ = scenes.truth(int(match[1]), int(match[2]))
        return as_proposals(boxes, self._max_proposals)


def as_proposals(boxes: np.ndarray, max_proposals: int) -> Proposals:
    """float32 [R, 4] true boxes -> the same as proposals, all at `TRUE_LOGIT`; the whole image for none."""
    if not len(boxes):
        return whole_image()
    return Proposals(boxes[:max_proposals], np.full(len(boxes[:max_proposals]), TRUE_LOGIT, np.float32))


def _checked(images: list[np.ndarray], keys: list[str] | None) -> list[str]:
    if keys is None or len(keys) != len(images):
        raise ValueError("localizer.kind: ground-truth needs the source key of every image")
    return keys


def load(settings: LocalizerSettings, device: str) -> GroundTruth | SceneTruth:
    """The boxes of `settings.truth` (COCO instances JSON), or the synthetic scenes' own; the device does not matter."""
    if settings.truth is None:
        return SceneTruth(settings.max_proposals)
    return GroundTruth(read_coco_boxes(storage.absolute(settings.truth)), settings.max_proposals)


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """How many boxes are kept, and the file they come from."""
    weights = storage.sha256(storage.absolute(settings.truth)) if settings.truth else "shapes"
    return {"max_proposals": settings.max_proposals, "weights": weights}
