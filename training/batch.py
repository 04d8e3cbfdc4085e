"""Views -> one micro-batch of tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from training.samples import View


@dataclass
class Batch:
    """N images with R regions in all, and their stored targets.

    images: uint8 [N, 3, H, W] (channels last in memory), zero-padded right and below.
    sizes: int64 [N, 2], true height and width.
    boxes: float32 [R, 4], xyxy in [0, 1] of the true image.
    image_index: int64 [R], whose region it is, rising.
    topk_ids: int64 [R, k]; topk_probs: float32 [R, k]; residual: float32 [R]; kept: bool [R].
    embeddings: float32 [R, D], or [R, 0] where they are not stored or not asked for.
    captions: float32 [N, D]; has_caption: bool [N].
    keys: of the N samples. skipped: (key, reason) of corrupt samples that others stand in for.
    """

    images: torch.Tensor
    sizes: torch.Tensor
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
        counts = torch.bincount(self.image_index, minlength=len(self.images)).tolist()
        return list(self.boxes.split(counts))


def collate(views: list[View], skipped: list[tuple[str, str]], pad_to: int = 1) -> Batch:
    """Stacks views; images are padded to the largest, rounded up to a multiple of pad_to."""
    sizes = np.array([v.image.shape[:2] for v in views], np.int64)
    height, width = (-(-int(n) // pad_to) * pad_to for n in sizes.max(axis=0))
    # NumPy asks for huge pages, torch does not: fresh memory is a third of the loader's time with small ones.
    images = torch.from_numpy(np.empty((len(views), height, width, 3), np.uint8))
    for canvas, view in zip(images, views, strict=True):
        _paint(canvas, view)

    def joined(name: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([getattr(v.regions, name) for v in views]))

    return Batch(
        images=images.permute(0, 3, 1, 2),
        sizes=torch.from_numpy(sizes),
        boxes=joined("boxes"),
        image_index=torch.from_numpy(np.repeat(np.arange(len(views)), [len(v.regions) for v in views])),
        topk_ids=joined("topk_ids"),
        topk_probs=joined("topk_probs"),
        residual=joined("residual"),
        kept=joined("kept"),
        embeddings=joined("embeddings"),
        captions=torch.from_numpy(np.stack([v.caption for v in views])),
        has_caption=torch.tensor([v.has_caption for v in views]),
        keys=[v.key for v in views],
        skipped=skipped,
    )


def _paint(canvas: torch.Tensor, view: View) -> None:
    """Writes a view's image, mirrored if it is, into uint8 [H, W, 3], with zeros right of it and below."""
    height, width = view.image.shape[:2]
    canvas[height:] = 0
    canvas[:height, width:] = 0
    canvas[:height, :width] = view.image.flip(1) if view.mirrored else view.image


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
