"""Settings of localizer training."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.localizers.set_shape import SetShape
from training.localizers.augment import AugmentSettings
from training.localizers.denoising_settings import DenoisingSettings

TRAINABLE = ("rpn-lite", "detr", "dab-detr", "dn-detr")


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

    kind: str = "rpn-lite"
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
    backbone: str = "imagenet"
    frozen_stages: int = 3
    views: int = 0
    seed: int = 0
    evaluate_every: int = 0
    checkpoint_every: int = 200
    threads: int = 1
    device: str = "cpu"
    workers: int = 0
    resume: bool = True


def validate(settings: LocalizerTrainingSettings) -> None:
    """Raises ValueError("key: what is wrong")."""
    if settings.kind not in TRAINABLE:
        raise ValueError(f"kind: must be one of {list(TRAINABLE)}, not '{settings.kind}'")
    data = settings.data
    if (data.images is None) != (data.instances is None):
        raise ValueError("data.images and data.instances: give both or neither")
    if data.images is None and data.scenes < 1:
        raise ValueError("data: give data.images and data.instances, or data.scenes, or both")
    if data.photos_weight <= 0 or data.scenes_weight <= 0:
        raise ValueError("data.photos_weight and data.scenes_weight: must be above 0")
    for name in ("steps", "batch_images", "checkpoint_every", "threads"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}: must be at least 1, not {getattr(settings, name)}")
    if not 0 <= settings.ema < 1:
        raise ValueError(f"ema: must be in [0, 1), not {settings.ema}")
    if settings.backbone not in ("imagenet", "random"):
        raise ValueError(f"backbone: must be imagenet or random, not '{settings.backbone}'")
    if not 0 <= settings.frozen_stages <= 7:
        raise ValueError(f"frozen_stages: must be in [0, 7], not {settings.frozen_stages}")
    if settings.augment.canvas % 32:
        raise ValueError(f"augment.canvas: must be a multiple of 32, not {settings.augment.canvas}")
