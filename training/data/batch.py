"""Views -> one micro-batch of tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from training.data.views import View


@dataclass(frozen=True)
class Item:
    """A view, and height and width of its image. skipped: (key, reason) of the corrupt samples that it stands in for."""

    view: View
    size: tuple[int, int]
    skipped: list[tuple[str, str]]


@dataclass
class Batch:
    """N images with R regions in all, and their stored targets.

    pixels: uint8 [P], the images one after the other, each [height, width, 3], upright: `images()` makes a stack of them.
    sizes: int64 [N, 2], true height and width. mirrored: bool [N]. canvas: height and width of the stack.
    boxes: float32 [R, 4], xyxy in [0, 1] of the true image.
    image_index: int64 [R], whose region it is, rising.
    topk_ids: int64 [R, k]; topk_probs: float32 [R, k]; residual: float32 [R]; kept: bool [R].
    embeddings: float32 [R, D], or [R, 0] where they are not stored or not asked for.
    captions: float32 [N, D]; has_caption: bool [N].
    keys: of the N samples. skipped: (key, reason) of corrupt samples that others stand in for.
    """

    pixels: torch.Tensor
    sizes: torch.Tensor
    mirrored: torch.Tensor
    canvas: tuple[int, int]
    boxes: torch.Tensor
    image_index: torch.Tensor
    topk_ids: torch.Tensor
    topk_probs: torch.Tensor
    residual: torch.Tensor
    kept: torch.Tensor
    embeddings: torch.Tensor
    captions: torch.Tensor
    has_caption: torch.Tensor
    keys: list[str]
    skipped: list[tuple[str, str]]

    def to(self, device: torch.device) -> Batch:
        """The batch on another device (asynchronously from pinned memory)."""
        return self._map(lambda t: t.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; torch's DataLoader calls this."""
        return self._map(lambda t: t.pin_memory())

    def _map(self, move) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{k: move(v) if isinstance(v, torch.Tensor) else v for k, v in values.items()})

    def boxes_per_image(self) -> list[torch.Tensor]:
        """The boxes of each image, float32 [R_i, 4]."""
        counts = torch.bincount(self.image_index, minlength=len(self.sizes)).tolist()
        return list(self.boxes.split(counts))

    def images(self) -> torch.Tensor:
        """uint8 [N, 3, *canvas] (channels last in memory): mirrored where they shall be, zero-padded right and below.

        Made where the batch is, so that on a GPU neither the loader nor the bus has to do with padding.
        """
        stack = self.pixels.new_zeros((len(self.sizes), *self.canvas, 3))
        sizes = self.sizes.tolist()
        parts = self.pixels.split([height * width * 3 for height, width in sizes])
        for canvas, part, (height, width), mirrored in zip(
            stack, parts, sizes, self.mirrored.tolist(), strict=True
        ):
            image = part.view(height, width, 3)
            canvas[:height, :width] = image.flip(1) if mirrored else image
        return stack.permute(0, 3, 1, 2)


def collate(items: list[Item], pixels: torch.Tensor, pad_to: int = 1) -> Batch:
    """Joins items. pixels: uint8 [P], their images one after the other. The canvas is the largest of them, rounded up to a
    multiple of pad_to."""
    views = [item.view for item in items]
    sizes = np.array([item.size for item in items], np.int64)
    height, width = (-(-int(n) // pad_to) * pad_to for n in sizes.max(axis=0))

    def joined(name: str, dtype: type) -> torch.Tensor:
        parts = [getattr(v.regions, name) for v in views]
        return torch.from_numpy(np.concatenate(parts).astype(dtype, copy=False))

    return Batch(
        pixels=pixels,
        sizes=torch.from_numpy(sizes),
        mirrored=torch.tensor([v.mirrored for v in views]),
        canvas=(height, width),
        boxes=joined("boxes", np.float32),
        image_index=torch.from_numpy(np.repeat(np.arange(len(views)), [len(v.regions) for v in views])),
        topk_ids=joined("topk_ids", np.int64),
        topk_probs=joined("topk_probs", np.float32),
        residual=joined("residual", np.float32),
        kept=joined("kept", np.bool_),
        embeddings=joined("embeddings", np.float32),
        captions=torch.from_numpy(np.stack([v.caption for v in views]).astype(np.float32, copy=False)),
        has_caption=torch.tensor([v.has_caption for v in views]),
        keys=[v.key for v in views],
        skipped=[bad for item in items for bad in item.skipped],
    )


def normalised(
    images: torch.Tensor, sizes: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """uint8 [N, 3, H, W] -> float32, (x / 255 - mean) / std inside the true extent and exactly 0 in the padding."""
    x = (images.float() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    height, width = images.shape[-2:]
    if bool((sizes == torch.tensor([height, width], device=sizes.device)).all()):
        return x
    rows = torch.arange(height, device=x.device)[None, :] < sizes[:, :1]
    columns = torch.arange(width, device=x.device)[None, :] < sizes[:, 1:]
    return x * (rows[:, None, :, None] & columns[:, None, None, :])
