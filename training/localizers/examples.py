"""Images with boxes: what localizers learn from and are measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from world import scenes


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
    """A folder of images with a COCO instances JSON. `part` is train or held-out (see `held_out`, by file name)."""

    def __init__(self, images: str, instances: str, held_out_count: int, part: str):
        if part not in ("train", "held-out"):
            raise ValueError(f"part must be train or held-out, not '{part}'")
        self._folder = Path(images)
        data = json.loads(Path(instances).read_text(encoding="utf-8"))
        out = held_out([image["file_name"] for image in data["images"]], held_out_count)
        self.images = sorted(
            (i for i in data["images"] if (i["file_name"] in out) == (part == "held-out")),
            key=lambda image: image["file_name"],
        )
        self._annotations: dict[int, list[dict]] = {image["id"]: [] for image in self.images}
        for annotation in data["annotations"]:
            if annotation["image_id"] in self._annotations:
                self._annotations[annotation["image_id"]].append(annotation)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        image = self.images[index]
        with Image.open(self._folder / image["file_name"]) as file:
            pixels = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
        rows: tuple[list, list] = ([], [])
        for annotation in self._annotations[image["id"]]:
            x, y, w, h = annotation["bbox"]
            if w > 0 and h > 0:
                rows[bool(annotation.get("iscrowd"))].append([x, y, x + w, y + h])
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
