"""Runs a region encoder over images of any sizes: the part that every teacher shares."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from pipeline.teachers.batching import ahead, groups_by_size, halving
from pipeline.teachers.preprocess import Preprocess, crops, resize
from pipeline.teachers.region_encoder import RegionEncoder
from pipeline.teachers.settings import TeacherSettings

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """The device that settings name; `auto` is cuda where there is one. Raises ValueError."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


class Tower:
    """A region encoder with its preprocessing, device and precision. Deterministic: no state between calls.

    Images of one micro-batch (one call) that have the same size after resizing share a pass, at most
    `batch_images` of them; nothing is padded, so an image's embeddings do not depend on its neighbours (up to the
    rounding of a kernel that picks its tiling by the batch's size).
    """

    def __init__(self, encoder: RegionEncoder, preprocess: Preprocess, settings: TeacherSettings):
        if settings.precision not in PRECISIONS:
            raise ValueError(f"teacher.precision: '{settings.precision}' is none of {', '.join(PRECISIONS)}")
        self.device = resolve_device(settings.device)
        self.preprocess = preprocess
        self.batch_images = max(1, settings.batch_images)
        self.resize_threads = settings.resize_threads
        self._dtype = PRECISIONS[settings.precision]
        self._format = torch.channels_last if settings.channels_last else torch.contiguous_format
        encoder = encoder.eval().requires_grad_(False).to(self.device, memory_format=self._format)
        self.encoder = encoder
        if settings.compile:
            encoder.features = torch.compile(encoder.features)  # type: ignore[method-assign]
            encoder.pool = torch.compile(encoder.pool, dynamic=True)  # type: ignore[method-assign]

    def regions(self, images: list[np.ndarray], boxes_xyxy_norm: list[np.ndarray]) -> list[torch.Tensor]:
        """`Teacher.encode_regions` by one pass an image."""
        out = [torch.zeros(0, self.encoder.dim)] * len(images)
        filled = [index for index, boxes in enumerate(boxes_xyxy_norm) if len(boxes)]
        sizes = [self.preprocess.size_of(*images[index].shape[:2]) for index in filled]
        groups = [[filled[i] for i in group] for group in groups_by_size(sizes, self.batch_images)]

        def load(group: list[int]) -> list[np.ndarray]:
            return [resize(images[index], self.preprocess.size_of(*images[index].shape[:2])) for index in group]

        for group, pixels in zip(groups, ahead(load, groups, self.resize_threads), strict=True):
            pairs = list(zip(pixels, [boxes_xyxy_norm[index] for index in group], strict=True))
            for index, embeddings in zip(group, halving(self._pass, pairs), strict=True):
                out[index] = embeddings
        return out

    @torch.inference_mode()
    def _pass(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[torch.Tensor]:
        """One pass over images of one size."""
        batch = self.tensor(np.stack([pixels for pixels, _ in pairs]))
        boxes = [torch.as_tensor(boxes, dtype=torch.float32) for _, boxes in pairs]
        with self.autocast():
            embeddings = self.encoder(batch, [b.to(self.device) for b in boxes])
        return list(embeddings.float().cpu().split([len(b) for b in boxes]))

    def tensor(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 [B, H, W, 3] -> the tower's input, on its device."""
        batch = self.preprocess.normalise(torch.tensor(pixels).to(self.device, non_blocking=True))
        return batch.contiguous(memory_format=self._format)

    def autocast(self) -> AbstractContextManager:
        """The settings' precision, as a context."""
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)


class CropTower:
    """Every region cut out, squashed to the model's own square and encoded apart: what one would do by hand.

    encode: normalised [B, 3, size, size] -> [B, dim].
    """

    batch_crops = 32

    def __init__(self, tower: Tower, encode: torch.nn.Module, size: int, dim: int):
        self.tower, self.encode, self.size, self.dim = tower, encode, size, dim

    def regions(self, images: list[np.ndarray], boxes_xyxy_norm: list[np.ndarray]) -> list[torch.Tensor]:
        """`Teacher.encode_regions` by one pass a region."""
        out = []
        for image, boxes in zip(images, boxes_xyxy_norm, strict=True):
            cut = crops(image, boxes, self.size)
            rows = [
                row
                for start in range(0, len(cut), self.batch_crops)
                for row in halving(self._pass, list(cut[start : start + self.batch_crops]))
            ]
            out.append(torch.stack(rows) if rows else torch.zeros(0, self.dim))
        return out

    @torch.inference_mode()
    def _pass(self, cut: list[np.ndarray]) -> list[torch.Tensor]:
        with self.tower.autocast():
            return list(self.encode(self.tower.tensor(np.stack(cut))).float().cpu())
