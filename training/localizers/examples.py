"""Images with boxes: what localizers learn from and are measured on."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

import storage
from pipeline.coco import Coco, CocoImage, read_coco
from pipeline.images import BadSample, decode
from pipeline.sources.image_folder import ImageFolder
from world import scenes

log = logging.getLogger("regionpairs")


@dataclass(frozen=True)
class Example:
    """An image and its boxes.

    image: uint8 [H, W, 3] RGB. boxes, ignored: float32 [N, 4] and [M, 4], xyxy in pixels; `ignored` marks areas
    where objects are not listed one by one (COCO crowds): no box there is right or wrong. `view` names an augmented
    example that will come again unchanged.
    """

    image: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray
    view: tuple[int, ...] | None = None


class BoxSource(Protocol):
    """A list of examples; example i is the same at every reading."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


def held_out(names: list[str], count: int) -> set[str]:
    """The `count` names whose sha256 is lowest: the split of a data set into training and held-out images.

    It depends on the names alone, so everyone who has the same files holds out the same ones.
    """
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8")).hexdigest())[:count])


class CocoBoxes:
    """A folder of images with a COCO instances JSON. `part` is train or held-out (see `held_out`, by file name).

    An image whose record is malformed or whose file is not below the folder is left out, and so is a box that is none;
    the log says how many. ValueError where no image is left, or, on reading, for one that cannot be decoded.
    """

    def __init__(self, images: str, instances: str, held_out_count: int, part: str):
        if part not in ("train", "held-out"):
            raise ValueError(f"part must be train or held-out, not '{part}'")
        coco = read_coco(storage.location(instances, "data.instances"), "COCO instances JSON")
        if coco.why():
            log.warning("%s: left out %s", instances, coco.why())
        self._folder = ImageFolder(storage.location(images, "data.images"), "data.images")
        self._folder.check()
        usable = self._usable(coco, instances)
        out = held_out([image.file_name for image in usable], held_out_count)
        self.images = sorted(
            (i for i in usable if (i.file_name in out) == (part == "held-out")), key=lambda i: i.file_name
        )
        self._boxes = {image.id: coco.boxes.get(image.id, []) for image in self.images}

    def _usable(self, coco: Coco, instances: str) -> list[CocoImage]:
        usable, problems = [], Counter[str]()
        self._places: dict[str, tuple[str, int]] = {}
        for image in coco.images:
            try:
                if image.problem:
                    problems[image.problem.partition(": ")[0]] += 1
                    continue
                self._places[image.file_name] = self._folder.find(image.file_name)
                usable.append(image)
            except BadSample as e:
                problems[e.reason] += 1
        why = ", ".join(f"{n} {reason}" for reason, n in problems.most_common())
        if not usable:
            raise ValueError(
                f"data.instances: {instances} names no image that can be used ({why or 'it lists none'})"
            )
        if why:
            log.warning("%s: left out %s of %d images", instances, why, len(coco.images))
        return usable

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        image = self.images[index]
        try:
            pixels, _ = decode(self._folder.read(*self._places[image.file_name]))
        except BadSample as e:
            raise ValueError(f"data.images: {image.file_name}: {e}") from e
        rows: tuple[list, list] = ([], [])
        for box in self._boxes[image.id]:
            x, y, w, h = box.xywh
            rows[box.crowd].append([x, y, x + w, y + h])
        boxes, ignored = (np.asarray(r, np.float32).reshape(-1, 4) for r in rows)
        return Example(pixels, boxes, ignored)


class SceneBoxes:
    """`count` scenes of the synthetic world `seed`. `kinds`: what may be drawn (default: the base kinds alone, so
    that a localizer trained on them has seen no novel kind)."""

    def __init__(self, seed: int, count: int, size: int, kinds: Sequence[str] = scenes.BASE_KINDS):
        self._seed, self._count, self._size, self._kinds = seed, count, size, kinds

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self._count:
            raise IndexError(index)
        scene = scenes.draw_scene(self._seed, index, self._size, self._kinds)
        return Example(scene.image, scene.boxes_xyxy_norm * self._size, np.zeros((0, 4), np.float32))


class InMemory:
    """The examples of a source, read once (a 640 x 480 photograph takes 0.9 MB)."""

    def __init__(self, source: BoxSource):
        self._examples = [source[i] for i in range(len(source))]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]
