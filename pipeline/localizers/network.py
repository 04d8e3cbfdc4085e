"""One localizer for every network: fit, group by canvas, forward, select."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from pipeline.devices import to_device
from pipeline.localizers import Proposals
from pipeline.localizers.fit import Fit, is_image, place
from pipeline.localizers.select import select_proposals, whole_image

#: One image's (boxes float [N, 4] xyxy in canvas pixels, raw logits [N]) a pyramid level.
Levels = list[tuple[torch.Tensor, torch.Tensor]]


class Proposer(Protocol):
    """A network that offers boxes.

    fit: how it wants its input.
    """

    fit: Fit

    def propose(self, pixels: torch.Tensor, sizes: list[tuple[int, int]]) -> list[Levels]:
        """float32 [B, 3, H, W] canvases and the (width, height) of the image on each -> raw boxes and logits."""
        ...


class NetworkLocalizer:
    """Runs a network on images of any sizes.

    Only images with the same canvas share a forward pass, so that no image sees another's padding. On the CPU every
    image has its own pass, which makes a batch equal one at a time bit for bit and costs little there.
    """

    def __init__(
        self,
        network: Proposer,
        device: str,
        *,
        pre_nms_top_n: int,
        nms_iou: float | None,
        max_proposals: int,
        batch_images: int = 8,
    ):
        self.network = network
        self._device = torch.device(device)
        self._batch_images = 1 if self._device.type == "cpu" else batch_images
        self._select = {
            "pre_nms_top_n": pre_nms_top_n,
            "nms_iou": nms_iou,
            "max_proposals": max_proposals,
        }

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray], keys: list[str] | None = None) -> list[Proposals]:
        out = [whole_image() for _ in images]
        canvases: dict[tuple[int, ...], list[tuple[int, torch.Tensor, int, int]]] = {}
        for index, image in enumerate(images):
            if not is_image(image):
                continue
            pixels, width, height = place(image, self.network.fit)
            canvases.setdefault(tuple(pixels.shape), []).append((index, pixels, width, height))
        for group in canvases.values():
            for start in range(0, len(group), self._batch_images):
                self._run(group[start : start + self._batch_images], out)
        return out

    def _run(self, group: list[tuple[int, torch.Tensor, int, int]], out: list[Proposals]) -> None:
        pixels = to_device(torch.stack([item[1] for item in group]), self._device)
        sizes = [(width, height) for _, _, width, height in group]
        for (index, _, width, height), levels in zip(group, self.network.propose(pixels, sizes), strict=True):
            out[index] = select_proposals(levels, width, height, **self._select)  # type: ignore[arg-type]
