"""`rpn-lite`: the small class-agnostic region proposal network that ships with the package.

One box a location on four pyramid levels, as in FCOS (Tian et al., ICCV 2019); the objectness is trained towards the
box's IoU with the object it covers, so that it ranks boxes by how well they fit (OLN, Kim et al., RA-L 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

import storage
from pipeline.localizers.fit import Fit
from pipeline.localizers.network import Levels, NetworkLocalizer
from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.networks.efficientnet_lite import (
    STAGES,
    STRIDES,
    LitePyramid,
    lite_backbone,
    run_stages,
    separable,
)
from pipeline.networks.weights_files import fill, identity, parse, random_seed, shipped

SHORT_SIDE = 320
CHANNELS = 96


class RpnLite(nn.Module):
    """Backbone, pyramid and a head whose convolutions are shared by the levels and whose batch norms are not."""

    def __init__(self, short_side: int = SHORT_SIDE, channels: int = CHANNELS):
        super().__init__()
        self.fit = Fit(short_side, 2 * short_side, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.backbone = lite_backbone()
        self.pyramid = LitePyramid(channels)
        self.heads = nn.ModuleList(LiteHead(channels) for _ in STRIDES)

    def forward(
        self, pixels: torch.Tensor, done: Sequence[torch.Tensor] = (), first: int = 0
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """float32 [B, 3, H, W] -> a level: objectness logits [B, N_l], boxes [B, N_l, 4] xyxy in canvas pixels.

        done, first: what `run_stages(backbone, pixels, 0, first)` gave, where the caller has run it already.
        """
        maps = run_stages(self.backbone, done[-1] if first else pixels, first, 7) if first < 7 else []
        stages = [*[m for m in done if m.shape[1] in STAGES], *maps]
        out = []
        for head, stride, level in zip(self.heads, STRIDES, self.pyramid(stages), strict=True):
            logits, sides = head(level)
            centres = level_centres(level.shape[-2], level.shape[-1], stride, level.device)
            # exp of a clamped value: one wild weight must not make an infinite box.
            reach = sides.flatten(2).transpose(1, 2).clamp(max=6.0).exp() * stride
            boxes = torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], dim=-1)
            out.append((logits.flatten(1), boxes))
        return out

    def propose(self, pixels: torch.Tensor, sizes: list[tuple[int, int]]) -> list[Levels]:
        levels = self(pixels.contiguous(memory_format=torch.channels_last))
        return [[(boxes[i], logits[i]) for logits, boxes in levels] for i in range(len(sizes))]


class LiteHead(nn.Module):
    """[B, C, H, W] -> objectness logits [B, 1, H, W], log distances to the four sides in strides [B, 4, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.tower = nn.Sequential(separable(channels, 5), separable(channels, 5))
        self.objectness = nn.Conv2d(channels, 1, 1)
        self.sides = nn.Conv2d(channels, 4, 1)
        for layer, start in ((self.objectness, -4.0), (self.sides, 1.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, start)  # type: ignore[arg-type]

    def forward(self, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        level = self.tower(level)
        return self.objectness(level), self.sides(level)


def level_centres(rows: int, columns: int, stride: int, device: torch.device) -> torch.Tensor:
    """Pixel centres (x, y) of a level's cells, row by row: float32 [rows * columns, 2]."""
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2)


def load(settings: LocalizerSettings, device: str) -> NetworkLocalizer:
    """The shipped network, or `settings.checkpoint`'s. Raises ValueError for a file of another network."""
    seed = random_seed(settings.checkpoint)
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RpnLite(settings.image_size or SHORT_SIDE)
    else:
        name = settings.checkpoint or shipped("pipeline.localizers", settings.kind)
        tensors, metadata = parse(storage.read_bytes(name), name)
        trained_at = int(metadata.get("short_side", SHORT_SIDE))
        network = RpnLite(settings.image_size or trained_at)
        fill(network, tensors, name)
    network.eval()
    fold_batch_norms(network)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return NetworkLocalizer(
        network,
        device,
        pre_nms_top_n=settings.pre_nms_top_n,
        nms_iou=settings.nms_iou,
        max_proposals=settings.max_proposals,
    )


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """The settings that change the boxes, and the weights."""
    return {
        "max_proposals": settings.max_proposals,
        "nms_iou": settings.nms_iou,
        "pre_nms_top_n": settings.pre_nms_top_n,
        "image_size": settings.image_size,
        "weights": identity(settings.checkpoint or shipped("pipeline.localizers", settings.kind)),
    }
