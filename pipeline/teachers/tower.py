"""Runs a region encoder over images of any sizes: the part that every teacher shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.devices import resolve_device, to_device
from pipeline.teachers.batching import ahead, groups_by_size, halving
from pipeline.teachers.preprocess import Preprocess, crops, resize, resize_as_it_lies
from pipeline.teachers.region_encoder import RegionEncoder
from pipeline.teachers.settings import TeacherSettings

#: (height, width) of an image -> (height, width) at which it is seen.
SizeOf = Callable[[int, int], tuple[int, int]]
#: uint8 [H, W, 3] -> the image as a pass takes it.
Prepare = Callable[[np.ndarray], torch.Tensor]
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Hardware:
    """Where and how a tower runs: device, precision and memory layout."""

    def __init__(self, settings: TeacherSettings):
        self.device = torch.device(resolve_device(settings.device))
        self.dtype = DTYPES[settings.precision]
        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format

    def place(self, module: nn.Module) -> nn.Module:
        """The module in evaluation mode, frozen, on the device."""
        return module.eval().requires_grad_(False).to(device=self.device).to(memory_format=self.layout)

    def batch(self, pixels: Sequence[np.ndarray | torch.Tensor], preprocess: Preprocess) -> torch.Tensor:
        """uint8 [H, W, 3 or more] of one size, of which three channels count -> the tower's input [B, 3, H, W]."""
        stacked = torch.stack([to_device(p, self.device) for p in pixels])[..., :3]
        return preprocess.normalise(stacked).contiguous(memory_format=self.layout)

    def autocast(self) -> AbstractContextManager:
        """The settings' precision, as a context."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)


class Tower:
    """A region encoder over images of any sizes. Deterministic: no state between calls.

    Images of one micro-batch (one call) that have the same size after resizing share a pass, at most
    `batch_images` of them; nothing is padded, so an image's embeddings do not depend on its neighbours (up to the
    rounding of a kernel that picks its tiling by the batch's size).
    """

    def __init__(self, encoder: RegionEncoder, preprocess: Preprocess, settings: TeacherSettings):
        self.hardware = Hardware(settings)
        self.preprocess = preprocess
        self.batch_images = settings.batch_images
        self.resize_threads = settings.resize_threads
        self.encoder = encoder
        self.hardware.place(encoder)
        if settings.compile:
            encoder.features = torch.compile(encoder.features)  # type: ignore[method-assign]
            encoder.pool = torch.compile(encoder.pool, dynamic=True)  # type: ignore[method-assign]

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which an image is seen; images of one such size share a pass."""
        return self.preprocess.size_of(height, width)

    def prepare(self, image: np.ndarray) -> torch.Tensor:
        """uint8 at the size at which it is seen: [H, W, 3], or for a GPU [H, W, 3 or 4] in pinned memory, of which three
        channels count. Any thread may ask."""
        size = self.seen_size(*image.shape[:2])
        on_gpu = self.hardware.device.type == "cuda"
        pixels = resize_as_it_lies(image, size) if on_gpu else resize(image, size)
        seen = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=on_gpu)
        seen.numpy()[:] = pixels
        return seen

    def regions(
        self, images: Sequence[np.ndarray | torch.Tensor], boxes_xyxy_norm: list[np.ndarray]
    ) -> list[torch.Tensor]:
        """`Teacher.encode_regions` by one pass an image."""
        out = [torch.zeros(0, self.encoder.dim)] * len(images)
        filled = [index for index, boxes in enumerate(boxes_xyxy_norm) if len(boxes)]
        sizes = {index: self._size_of(images[index]) for index in filled}
        groups = groups_by_size(sizes, self.batch_images)

        def load(group: list[int]) -> list[torch.Tensor]:
            return [self._prepared(images[index]) for index in group]

        for group, pixels in zip(groups, ahead(load, groups, self.resize_threads), strict=True):
            pairs = list(zip(pixels, [boxes_xyxy_norm[index] for index in group], strict=True))
            for index, embeddings in zip(group, halving(self._pass, pairs), strict=True):
                out[index] = embeddings
        return on_cpu(out)

    def _prepared(self, image: np.ndarray | torch.Tensor) -> torch.Tensor:
        return image if isinstance(image, torch.Tensor) else self.prepare(image)

    def _size_of(self, image: np.ndarray | torch.Tensor) -> tuple[int, int]:
        height, width = image.shape[:2]
        return (height, width) if isinstance(image, torch.Tensor) else self.seen_size(height, width)

    @torch.inference_mode()
    def _pass(self, pairs: list[tuple[torch.Tensor, np.ndarray]]) -> list[torch.Tensor]:
        """One pass over images of one size; what it returns lies on the device."""
        batch = self.hardware.batch([pixels for pixels, _ in pairs], self.preprocess)
        sizes = [len(boxes) for _, boxes in pairs]
        together = np.concatenate([boxes for _, boxes in pairs]).astype(np.float32, copy=False)
        boxes = list(to_device(together, batch.device).split(sizes))
        with self.hardware.autocast():
            embeddings = self.encoder(batch, boxes)
        return list(embeddings.float().split(sizes))


def on_cpu(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors [R_i, D] on the CPU; those of a device come in one copy, for which the program waits once."""
    away = [i for i, tensor in enumerate(tensors) if tensor.device.type != "cpu"]
    if away:
        together = torch.cat([tensors[i] for i in away]).cpu()
        for i, tensor in zip(away, together.split([len(tensors[i]) for i in away]), strict=True):
            tensors[i] = tensor
    return tensors


class SeesRegions:
    """What teachers say and do by their tower, `_regions`."""

    _regions: Tower | CropTower

    @property
    def seen_size(self) -> SizeOf | None:
        """`Tower.seen_size`; None where every region is cut out and encoded apart."""
        return self._regions.seen_size if isinstance(self._regions, Tower) else None

    @property
    def prepare(self) -> Prepare | None:
        """`Tower.prepare`; None where every region is cut out and encoded apart."""
        return self._regions.prepare if isinstance(self._regions, Tower) else None

    def encode_regions(self, images: list[Any], boxes_xyxy_norm: list[np.ndarray]) -> list[torch.Tensor]:
        """`Teacher.encode_regions`, also of images that `prepare` returned."""
        return self._regions.regions(images, boxes_xyxy_norm)


def prepare_of(teacher: object) -> Prepare | None:
    """`Tower.prepare` of a teacher that encodes regions by its tower and in no way of its own; None for any other, which
    gets images as they are."""
    if not isinstance(teacher, SeesRegions) or "encode_regions" in vars(teacher):
        return None
    return teacher.prepare if type(teacher).encode_regions is SeesRegions.encode_regions else None


class CropTower:
    """Every region cut out, squashed to the model's own square and encoded apart: what one would do by hand.

    encode: normalised [B, 3, side, side] -> [B, dim], side = preprocess.short_side.
    """

    batch_crops = 32

    def __init__(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        dim: int,
        preprocess: Preprocess,
        settings: TeacherSettings,
    ):
        self.hardware = Hardware(settings)
        self.encode, self.dim, self.preprocess = encode, dim, preprocess

    def regions(self, images: list[np.ndarray], boxes_xyxy_norm: list[np.ndarray]) -> list[torch.Tensor]:
        """`Teacher.encode_regions` by one pass a region."""
        out = []
        for image, boxes in zip(images, boxes_xyxy_norm, strict=True):
            cut = list(crops(image, boxes, self.preprocess.short_side))
            rows = [torch.zeros(0, self.dim)]
            for start in range(0, len(cut), self.batch_crops):
                rows += halving(self._pass, cut[start : start + self.batch_crops])
            out.append(torch.cat(rows))
        return out

    @torch.inference_mode()
    def _pass(self, cut: list[np.ndarray]) -> list[torch.Tensor]:
        with self.hardware.autocast():
            return list(self.encode(self.hardware.batch(cut, self.preprocess)).float().cpu()[:, None])
