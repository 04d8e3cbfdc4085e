"""What `detr`, `dab-detr` and `dn-detr` share: features, heads, the weights file, boxes out.

A set predictor answers with a fixed number of queries; each query's box is a proposal and its score the objectness.
Boxes and positions are relative to the padded canvas.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.localizers.fit import Fit
from pipeline.localizers.network import Levels
from pipeline.localizers.set_shape import SetShape
from pipeline.networks.efficientnet_lite import lite_backbone, run_stages
from pipeline.networks.weights_files import serialise

STRIDE = 16
#: Channels a token: four 40-channel cells of the stride-8 stage beside the 112 channels of the stride-16 stage.
TOKEN_CHANNELS = 4 * 40 + 112
LAST_STAGE = 5


@dataclass(frozen=True)
class Denoising:
    """Extra queries of denoising training, in front of the others (`training.localizers.denoising`).

    labels: int64 [B, D], rows of the label embedding. boxes: float32 [B, D, 4], centre x, y, width, height in [0, 1].
    hidden: bool [D + Q, D + Q], True where a query (row) must not see another (column).
    """

    labels: torch.Tensor
    boxes: torch.Tensor
    hidden: torch.Tensor


@dataclass(frozen=True)
class SetPrediction:
    """What the L decoder layers say of each query.

    logits: float32 [L, B, Q], raw objectness. boxes: float32 [L, B, Q, 4], centre x, y, width, height in [0, 1].
    attention: float32 [L, B, heads, Q, tokens], cross-attention, where it was asked for.
    """

    logits: torch.Tensor
    boxes: torch.Tensor
    attention: torch.Tensor | None = None


class SetNetwork(nn.Module, ABC):
    """EfficientNet-Lite0 to stride 16, then a transformer of one of the kinds."""

    def __init__(self, shape: SetShape):
        super().__init__()
        self.shape = shape
        self.fit = Fit(shape.short_side, 2 * shape.short_side, STRIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.backbone = lite_backbone()
        blocks = self.backbone.blocks
        assert isinstance(blocks, nn.Sequential)
        del blocks[LAST_STAGE:]
        self.project = nn.Conv2d(TOKEN_CHANNELS, shape.width, 1)
        self.objectness = nn.Linear(shape.width, 1)
        nn.init.constant_(self.objectness.bias, -4.0)

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 [B, 3, H, W] -> [B, TOKEN_CHANNELS, H / 16, W / 16]."""
        fine, coarse = run_stages(self.backbone, pixels, 0, LAST_STAGE)
        return torch.cat([nn.functional.pixel_unshuffle(fine, 2), coarse], dim=1)

    def forward(
        self, inputs: torch.Tensor, denoising: Denoising | None = None, attention: bool = False
    ) -> SetPrediction:
        """Pixels, or tokens as `tokens` gives them -> predictions; with `denoising` its D queries come first."""
        memory = self.project(self.tokens(inputs) if inputs.shape[1] == 3 else inputs)
        states, boxes, weights = self.decode(memory, denoising, attention)
        return SetPrediction(self.objectness(states).squeeze(-1), boxes, weights)

    @abstractmethod
    def decode(
        self, memory: torch.Tensor, denoising: Denoising | None, attention: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """[B, width, h, w] -> states [L, B, Q, width], boxes [L, B, Q, 4], attention [L, B, heads, Q, h w] or None."""

    def propose(self, pixels: torch.Tensor, sizes: list[tuple[int, int]]) -> list[Levels]:
        prediction = self(pixels)
        scale = torch.tensor([pixels.shape[3], pixels.shape[2]] * 2, device=pixels.device)
        boxes = corners(prediction.boxes[-1]) * scale
        return [[(boxes[i], prediction.logits[-1, i])] for i in range(len(sizes))]

    def weights_file(self, kind: str) -> bytes:
        """Safetensors bytes (fp16) with kind and shape in the metadata."""
        metadata = {"localizer": kind, "shape": json.dumps(dataclasses.asdict(self.shape), sort_keys=True)}
        return serialise(self, metadata, torch.float16)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Centre x, y, width, height -> x0, y0, x1, y1 along the last axis."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)


def centres(boxes: torch.Tensor) -> torch.Tensor:
    """x0, y0, x1, y1 -> centre x, y, width, height along the last axis."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)
