"""Sets of images whose objects are known: synthetic scenes, and COCO or LVIS annotations of the user's."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.coco_names import BASE, NOVEL
from evaluation.settings import TruthSettings
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
    """COCO's or LVIS's annotations; crowd boxes and boxes without area are left out, as are images without a box.

    Novel: LVIS's rare classes where the file has frequencies, else the 17 names.
    """
    data = json.loads(Path(str(settings.instances)).read_text())
    categories = sorted(data["categories"], key=lambda c: c["id"])
    if settings.classes == "ovr":
        categories = [c for c in categories if c["name"] in BASE | NOVEL]
    place = {c["id"]: i for i, c in enumerate(categories)}
    novel = np.array([c["frequency"] == "r" if "frequency" in c else c["name"] in NOVEL for c in categories])
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    labels: dict[int, list[int]] = defaultdict(list)
    for a in data["annotations"]:
        if a.get("iscrowd") or a["category_id"] not in place or min(a["bbox"][2:]) <= 0:
            continue
        boxes[a["image_id"]].append(a["bbox"])
        labels[a["image_id"]].append(place[a["category_id"]])
    texts = _captions(settings.captions)
    wanted = [image for image in data["images"] if boxes[image["id"]]]
    if settings.uncaptioned:
        wanted = [image for image in wanted if image["id"] not in texts]
    wanted = wanted[: settings.count or None]
    found = [
        _coco_image(
            image, Path(str(settings.images)), boxes[image["id"]], labels[image["id"]], texts[image["id"]]
        )
        for image in wanted
    ]
    return TruthSet([c["name"].replace("_", " ") for c in categories], novel, found)


def _coco_image(
    image: dict[str, Any], folder: Path, boxes: list[list[float]], labels: list[int], captions: list[str]
) -> TrueImage:
    name = image.get("file_name") or image["coco_url"].rsplit("/", 1)[1]
    xywh = np.array(boxes, np.float64)
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    scaled = corners / ([image["width"], image["height"]] * 2)
    return TrueImage(
        name,
        partial(_read, folder / name),
        captions,
        scaled.clip(0, 1).astype(np.float32),
        np.array(labels),
    )


def _read(path: Path) -> np.ndarray:
    return decode(path.read_bytes())[0]


def _captions(path: str | None) -> dict[int, list[str]]:
    texts: dict[int, list[str]] = defaultdict(list)
    if path:
        for a in json.loads(Path(path).read_text())["annotations"]:
            texts[a["image_id"]].append(a["caption"])
    return texts
