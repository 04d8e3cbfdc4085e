"""Sets of images whose objects are known: synthetic scenes, and COCO or LVIS annotations of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

import storage
from evaluation.coco_names import BASE, NOVEL
from evaluation.settings import TruthSettings
from pipeline.coco import CocoBox, CocoImage, read_coco
from pipeline.images import decode
from world import scenes


@dataclass(frozen=True)
class TrueImage:
    """One image: a function that loads it as uint8 [H, W, 3], its captions, its n objects.

    boxes_xyxy_norm: float32 [n, 4] in [0, 1]; labels: int [n], indices of the set's names. key: the source key that it
    has in a dataset.
    """

    key: str
    load: Callable[[], np.ndarray]
    captions: list[str]
    boxes_xyxy_norm: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TruthSet:
    """Images, the class names, and which of these are novel (bool [C])."""

    names: list[str]
    novel: np.ndarray
    images: list[TrueImage]


def in_memory(truth: TruthSet) -> TruthSet:
    """The same set with its images loaded, for many passes over it."""
    images = [replace(image, load=partial(np.asarray, image.load())) for image in truth.images]
    return replace(truth, images=images)


def load(settings: TruthSettings) -> TruthSet:
    """The set that the settings describe. Raises ValueError where the files hold no object to measure on."""
    if settings.kind == "shapes":
        return shapes_truth(settings.seed, settings.first, settings.count or 500, settings.size)
    return coco_truth(settings)


def shapes_truth(seed: int, first: int, count: int, size: int = scenes.SIZE) -> TruthSet:
    """Scenes `first` .. `first + count - 1` of world `seed`."""
    found = []
    for index in range(first, first + count):
        boxes, kinds = scenes.truth(seed, index)
        labels = np.array([scenes.KINDS.index(kind) for kind in kinds])
        found.append(
            TrueImage(
                f"shapes-{seed}-{index:08d}",
                partial(_draw, seed, index, size),
                scenes.captions(seed, index),
                boxes,
                labels,
            )
        )
    novel = np.array([kind in scenes.NOVEL_KINDS for kind in scenes.KINDS])
    return TruthSet(list(scenes.KINDS), novel, found)


def _draw(seed: int, index: int, size: int) -> np.ndarray:
    return scenes.draw_scene(seed, index, size).image


def coco_truth(settings: TruthSettings) -> TruthSet:
    """COCO's or LVIS's annotations; crowds are left out, as are images without a box and images of unknown size.

    An image's key is its file name, which is its source key in a dataset of `source.kind: coco`. Novel: LVIS's rare
    classes where the file has frequencies, else the 17 names. Raises ValueError where no image is left.
    """
    coco = read_coco(storage.absolute(str(settings.instances)))
    classes = sorted(coco.categories)
    if settings.classes == "ovr":
        classes = [c for c in classes if coco.categories[c] in BASE | NOVEL]
    place = {category: i for i, category in enumerate(classes)}
    captions = read_coco(storage.absolute(settings.captions)).captions if settings.captions else {}
    found = []
    for image in coco.images:
        objects = _objects(image, coco.boxes.get(image.id, []), place)
        if not len(objects.labels) or (settings.uncaptioned and image.id in captions):
            continue
        url = storage.join(storage.absolute(str(settings.images)), image.file_name)
        boxes, labels = objects.boxes_xyxy_norm, objects.labels
        found.append(
            TrueImage(image.file_name, partial(_read, url), captions.get(image.id, []), boxes, labels)
        )
        if len(found) == settings.count:
            break
    if not found:
        raise ValueError(f"truth.instances: {settings.instances} holds no image with an object to measure on")
    names = [coco.categories[c] for c in classes]
    novel = [
        coco.frequencies.get(c) == "r" if coco.frequencies else coco.categories[c] in NOVEL for c in classes
    ]
    return TruthSet([name.replace("_", " ") for name in names], np.array(novel, bool), found)


@dataclass(frozen=True)
class _Objects:
    boxes_xyxy_norm: np.ndarray
    labels: np.ndarray


def _objects(image: CocoImage, annotations: list[CocoBox], place: dict[int, int]) -> _Objects:
    """The objects of the wanted classes that lie in the image; none where its record is damaged."""
    known = not image.problem and image.width > 0 and image.height > 0
    rows = [a for a in annotations if known and not a.crowd and a.category_id in place]
    xywh = np.array([a.xywh for a in rows], np.float64).reshape(-1, 4)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    boxes = (corners / ([image.width or 1, image.height or 1] * 2)).clip(0, 1).astype(np.float32)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return _Objects(boxes[inside], np.array([place[a.category_id] for a in rows], int)[inside])


def _read(url: str) -> np.ndarray:
    try:
        return decode(storage.read_bytes(url))[0]
    except FileNotFoundError as e:
        raise FileNotFoundError(
            f"{url} is not there: truth.instances lists an image that truth.images lacks; give a file that lists the "
            "folder's own images"
        ) from e
