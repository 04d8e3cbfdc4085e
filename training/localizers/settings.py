"""Settings of localizer training."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

import storage
from pipeline.localizers.set_shape import SetShape
from training.settings import at_least, require


def share(room: str, settings: object, name: str) -> None:
    """Raises ValueError where `settings.name`, the key `room.name`, is outside [0, 1]."""
    value = getattr(settings, name)
    require(0 <= value <= 1, f"{room}.{name}", f"must be in [0, 1], is {value}")


@dataclass(frozen=True)
class AugmentSettings:
    """How training images are varied.

    Attributes:
        canvas: side in pixels of the square training canvas
        min_side: short side in pixels of the smallest rescaled image
        max_side: short side in pixels of the largest rescaled image
        stretch: largest change of the aspect ratio (1.2: up to 20 % wider or narrower)
        flip: probability of a horizontal flip
        colour: strength of brightness, contrast and saturation jitter (0: none)
        mosaic: probability that four examples share a canvas
        min_visible: share of a box that must stay inside the crop for it to count; less is ignored
    """

    canvas: int = 320
    min_side: int = 200
    max_side: int = 420
    stretch: float = 1.2
    flip: float = 0.5
    colour: float = 0.3
    mosaic: float = 0.25
    min_visible: float = 0.4

    def __post_init__(self) -> None:
        require(
            self.canvas > 0 and self.canvas % 32 == 0,
            "augment.canvas",
            f"must be a multiple of 32, is {self.canvas}",
        )
        at_least("augment", self, "min_side", 1)
        require(self.max_side >= self.min_side, "augment.max_side", "must be at least augment.min_side")
        require(self.stretch >= 1, "augment.stretch", f"must be at least 1, is {self.stretch}")
        for name in ("flip", "colour", "mosaic", "min_visible"):
            share("augment", self, name)


@dataclass(frozen=True)
class DenoisingSettings:
    """How denoising queries are made.

    Attributes:
        groups: noised copies of an image's objects (count)
        shift: a centre moves by less than this share of half the box's width and height
        scale: width and height change by less than this share
        flip: probability that a label claims to be no object
    """

    groups: int = 5
    shift: float = 0.4
    scale: float = 0.4
    flip: float = 0.2

    def __post_init__(self) -> None:
        at_least("denoising", self, "groups", 0)
        for name in ("shift", "scale", "flip"):
            share("denoising", self, name)


@dataclass(frozen=True)
class BoxDataSettings:
    """What a localizer learns from: photographs with COCO boxes, synthetic scenes, or both.

    Attributes:
        images: folder of images (path); none: no photographs
        instances: COCO instances JSON of those images (path)
        held_out: images kept out of training for measuring (count, by a hash of the file name)
        photos_weight: share of training images that are photographs, relative to scenes_weight
        scenes: synthetic scenes to learn from (count); 0: none
        scenes_weight: share of training images that are synthetic scenes, relative to photos_weight
        scenes_size: side in pixels of a synthetic scene
        scenes_seed: seed of the synthetic world to learn from; the held-out scenes are of the next seed
        scenes_held_out: synthetic scenes for measuring (count)
    """

    images: str | None = None
    instances: str | None = None
    held_out: int = 60
    photos_weight: float = 1.0
    scenes: int = 0
    scenes_weight: float = 1.0
    scenes_size: int = 160
    scenes_seed: int = 40001
    scenes_held_out: int = 100

    def __post_init__(self) -> None:
        require(
            (self.images is None) == (self.instances is None),
            "data.images",
            "needs data.instances, and it this",
        )
        for name in ("held_out", "scenes", "scenes_seed", "scenes_held_out"):
            at_least("data", self, name, 0)
        at_least("data", self, "scenes_size", 16)
        for name in ("photos_weight", "scenes_weight"):
            weight = getattr(self, name)
            require(0 < weight < inf, f"data.{name}", f"must be above 0, is {weight}")


@dataclass(frozen=True)
class LocalizerTrainingSettings:
    """How a localizer is trained.

    Attributes:
        kind: rpn-lite | detr | dab-detr | dn-detr
        out: folder for checkpoints, the log and TensorBoard files (path)
        data: what to learn from
        augment: how training images are varied
        shape: size of the network (detr, dab-detr, dn-detr)
        denoising: how denoising queries are made (dn-detr)
        init: weights file to start from (path or URL); none: the backbone's, and the rest at random
        steps: optimiser steps
        batch_images: images a step and worker
        lr: peak learning rate of new layers
        backbone_lr: peak learning rate of the backbone's trained stages
        weight_decay: of AdamW
        warmup_steps: steps of linear warm-up
        clip_norm: largest norm of the whole gradient
        ema: decay a step of the averaged weights that are saved and measured
        backbone: imagenet (EfficientNet-Lite0's weights from its package) | random
        frozen_stages: stages of the backbone, from the input, that are not trained (0-7)
        views: views an image that take turns, the frozen stages' output kept in memory (count); 0: always a new one
        seed: seeds initial weights, data order and augmentation
        evaluate_every: steps between measurements on the held-out examples; 0: only at the end
        checkpoint_every: steps between checkpoints
        threads: torch threads a worker
        device: torch device of each worker: cpu | cuda | auto
        workers: Ray Train workers; 0: this process alone, without Ray
        resume: go on from the folder's checkpoint where there is one
    """

    kind: Literal["rpn-lite", "detr", "dab-detr", "dn-detr"] = "rpn-lite"
    out: str = "runs/localizer"
    data: BoxDataSettings = field(default_factory=BoxDataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    shape: SetShape = field(default_factory=SetShape)
    denoising: DenoisingSettings = field(default_factory=DenoisingSettings)
    init: str | None = None
    steps: int = 2000
    batch_images: int = 8
    lr: float = 1e-3
    backbone_lr: float = 1e-4
    weight_decay: float = 0.02
    warmup_steps: int = 100
    clip_norm: float = 5.0
    ema: float = 0.998
    backbone: Literal["imagenet", "random"] = "imagenet"
    frozen_stages: int = 3
    views: int = 0
    seed: int = 0
    evaluate_every: int = 0
    checkpoint_every: int = 200
    threads: int = 1
    device: str = "cpu"
    workers: int = 0
    resume: bool = True

    def __post_init__(self) -> None:
        kinds = ("rpn-lite", "detr", "dab-detr", "dn-detr")
        require(self.kind in kinds, "kind", f"must be one of {', '.join(kinds)}, is '{self.kind}'")
        storage.local_folder(self.out, "out")
        for name in ("steps", "batch_images", "checkpoint_every", "threads"):
            require(getattr(self, name) >= 1, name, f"must be at least 1, is {getattr(self, name)}")
        for name in ("warmup_steps", "views", "seed", "evaluate_every", "workers"):
            require(getattr(self, name) >= 0, name, f"must not be negative, is {getattr(self, name)}")
        for name in ("lr", "backbone_lr", "clip_norm"):
            require(0 < getattr(self, name) < inf, name, f"must be above 0, is {getattr(self, name)}")
        require(0 <= self.weight_decay < inf, "weight_decay", f"must be 0 or above, is {self.weight_decay}")
        require(0 <= self.ema < 1, "ema", f"must be in [0, 1), is {self.ema}")
        names = ("imagenet", "random")
        require(self.backbone in names, "backbone", f"must be imagenet or random, is '{self.backbone}'")
        require(0 <= self.frozen_stages <= 7, "frozen_stages", f"must be in [0, 7], is {self.frozen_stages}")


def check_sources(data: BoxDataSettings) -> None:
    """Raises ValueError where there is nothing to learn from (a default has neither photographs nor scenes)."""
    has_any = data.images is not None or data.scenes >= 1
    require(has_any, "data", "give data.images and data.instances, or data.scenes, or both")
