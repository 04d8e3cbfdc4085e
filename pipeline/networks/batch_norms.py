"""Batch norms folded into the convolutions before them, for towers that are never trained again."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: Which convolution each batch norm follows, by the class of the module that holds the two.
CONVOLUTIONS_AND_NORMS = {
    # timm's EfficientNet
    "EfficientNet": (("conv_stem", "bn1"), ("conv_head", "bn2")),
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
    # open_clip's ModifiedResNet; a shortcut is a Sequential of pool ("-1"), convolution and norm
    "ModifiedResNet": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    "Bottleneck": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    "Sequential": (("0", "1"),),
}


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """The model itself, in evaluation mode, with every known batch norm folded away; up to rounding the same function.

    A norm is a pass over memory, so a frozen tower gets a fifth to a third faster on a CPU. timm's norms carry their
    activation, which stays.
    """
    for holder, convolution, norm in list(convolutions_and_norms(model.eval())):
        batch_norm = getattr(holder, norm)
        setattr(holder, convolution, fuse_conv_bn_eval(getattr(holder, convolution), batch_norm))
        setattr(holder, norm, getattr(batch_norm, "act", nn.Identity()))
    return model.eval()


def convolutions_and_norms(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Each module that holds a convolution and the batch norm after it, and the names of the two in it."""
    for module in model.modules():
        for convolution, norm in CONVOLUTIONS_AND_NORMS.get(type(module).__name__, ()):
            first, second = getattr(module, convolution, None), getattr(module, norm, None)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                yield module, convolution, norm
