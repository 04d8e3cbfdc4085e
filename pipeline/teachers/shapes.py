"""The embedded teacher: a tiny CLIP that knows the base kinds of the known-truth world. No download, no GPU.

`jobs/train_shapes_teacher.py` made its weights; `docs/world.md` says how good it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import storage
from pipeline.networks.region_geometry import extend_edges
from pipeline.networks.weights_files import shipped
from pipeline.teachers.preprocess import Preprocess
from pipeline.teachers.region_encoder import RegionEncoder
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.shapes_clip import DIM, ShapesClip, ShapesImageTower
from pipeline.teachers.tower import CropTower, SeesRegions, Tower

#: The side in pixels of the pictures that it saw last in its training, and of a crop about one of their objects.
SIDE, CROP_SIDE = 96, 48


class ShapesRegions(RegionEncoder):
    """The image tower's head on the maximum under each box: differentiable, for teacher and student alike."""

    dim = DIM
    stride = ShapesImageTower.stride
    multiple_of = ShapesImageTower.stride

    def __init__(self, visual: ShapesImageTower):
        super().__init__()
        self.visual = visual

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        if bool((sizes == torch.tensor([height, width], device=sizes.device)).all()):
            return self.visual.features(images)
        # One size at a time, so that no image sees padding.
        maps: list[torch.Tensor] = [images] * len(images)
        cells = -(-sizes // self.stride)
        across, down = -(-width // self.stride), -(-height // self.stride)
        for h, w in sorted({(h, w) for h, w in sizes.tolist()}):
            same = ((sizes[:, 0] == h) & (sizes[:, 1] == w)).nonzero()[:, 0]
            found = self.visual.features(images[same.to(images.device), :, :h, :w])
            room = (0, across - found.shape[3], 0, down - found.shape[2])
            for place, row in zip(same.tolist(), torch.nn.functional.pad(found, room), strict=True):
                maps[place] = row
        return extend_edges(torch.stack(maps), cells)

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        return self.visual.pool(features, rois)


class ShapesTeacher(SeesRegions):
    """Region and text embeddings of the tiny CLIP. tower.encoder is the `ShapesRegions` that a student starts from."""

    dim = DIM

    def __init__(self, settings: TeacherSettings, weights: str | Path | None = None):
        weights = weights or shipped("pipeline.teachers", "shapes")
        model = ShapesClip()
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()}
        )
        self.model = model.eval().requires_grad_(False)
        self.logit_scale = float(model.log_scale.exp().clamp(max=100))
        short = settings.image_size or SIDE
        preprocess = Preprocess(short, 2 * short, ShapesRegions.multiple_of, (0.5,) * 3, (0.5,) * 3)
        self.tower = Tower(ShapesRegions(model.image), preprocess, settings)
        self._regions = self.tower
        if settings.features == "crop":
            side = settings.image_size or CROP_SIDE
            square = Preprocess(side, side, side, (0.5,) * 3, (0.5,) * 3)
            self._regions = CropTower(model.image, DIM, square, settings)

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> torch.Tensor:
        parts = [self.model.text(texts[start : start + 512]) for start in range(0, len(texts), 512)]
        return torch.cat([torch.zeros(0, DIM), *parts])


def load(settings: TeacherSettings) -> ShapesTeacher:
    """The teacher with its shipped weights."""
    return ShapesTeacher(settings)


def describe(settings: TeacherSettings) -> dict[str, Any]:
    """The sha256 of the shipped weights."""
    file = shipped("pipeline.teachers", "shapes")
    return {"weights_sha256": {Path(file).name: storage.sha256(file)}}
