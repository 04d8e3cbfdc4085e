"""EfficientNet-Lite0 with a light feature pyramid: the trunk of `rpn-lite`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

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


def fuse_batch_norms(module: nn.Module) -> None:
    """Folds every batch norm of an eval-mode lite network into the convolution before it, in place: same function,
    fewer passes over memory."""
    previous: tuple[nn.Module, str, nn.Conv2d] | None = None
    for parent, name, child in list(_leaves(module)):
        if isinstance(child, nn.Conv2d):
            previous = (parent, name, child)
        elif isinstance(child, nn.BatchNorm2d):
            assert previous is not None
            previous[0]._modules[previous[1]] = fuse_conv_bn_eval(previous[2], child)
            # timm's norm layers carry their activation.
            parent._modules[name] = getattr(child, "act", nn.Identity())
            previous = None


def _leaves(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d | nn.BatchNorm2d):
            yield module, name, child
        else:
            yield from _leaves(child)
