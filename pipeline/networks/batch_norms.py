"""Batch norms as part of the convolutions before them: for good in a network that is never trained again, in every
step anew in one whose convolutions train.

A norm in evaluation mode scales and shifts each channel, so it is the same as scaled weights and a bias. That spares a
pass over memory forward, and in training one backward and the activation that the norm's gradient would keep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: Which convolution each batch norm follows, by the class of the module that holds the two.
CONVOLUTIONS_AND_NORMS = {
    # timm's EfficientNet, whole and as a feature extractor
    "EfficientNet": (("conv_stem", "bn1"), ("conv_head", "bn2")),
    "EfficientNetFeatures": (("conv_stem", "bn1"),),
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
    # open_clip's ModifiedResNet
    "ModifiedResNet": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    "Bottleneck": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    # its shortcut (a pool, "-1", then a convolution and a norm), and `efficientnet_lite.separable`
    "Sequential": (("0", "1"), ("2", "3")),
}


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """The model itself, in evaluation mode, with every known batch norm folded away; up to rounding the same function.

    A frozen tower gets a fifth to a third faster on a CPU. timm's norms carry their activation, which stays.
    """
    for holder, convolution, norm in list(convolutions_and_norms(model.eval())):
        batch_norm = getattr(holder, norm)
        setattr(holder, convolution, fuse_conv_bn_eval(getattr(holder, convolution), batch_norm))
        setattr(holder, norm, getattr(batch_norm, "act", nn.Identity()))
    return model.eval()


def fold_frozen_norms(model: nn.Module, frozen: Collection[nn.Module]) -> None:
    """Has the convolution before each of these batch norms, which stay in evaluation mode, do the norm's work too.

    The convolution trains, so this is done in every step; names and values of the weights stay what they are. A norm
    of another kind, or after a convolution that we do not know or that has a bias, stays as it is.
    """
    for holder, convolution_name, norm_name in list(convolutions_and_norms(model)):
        convolution, norm = getattr(holder, convolution_name), getattr(holder, norm_name)
        known = type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d
        if known and norm in frozen and norm.affine and norm.track_running_stats and convolution.bias is None:
            convolution.__class__, norm.__class__ = _NormedConvolution, _PassedNorm
            convolution.norms = (norm,)


def convolutions_and_norms(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Each module that holds a convolution and the batch norm after it, and the names of the two in it."""
    for module in model.modules():
        for convolution, norm in CONVOLUTIONS_AND_NORMS.get(type(module).__name__, ()):
            first, second = getattr(module, convolution, None), getattr(module, norm, None)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                yield module, convolution, norm


class _NormedConvolution(nn.Conv2d):
    """A convolution and the frozen batch norm after it, `norms[0]`."""

    norms: tuple[nn.BatchNorm2d]  # a tuple hides its parameters, which belong to another module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, D, h', w'], normalised."""
        (norm,) = self.norms
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return self._conv_forward(
            x, self.weight * scale[:, None, None, None], norm.bias - scale * norm.running_mean
        )


class _PassedNorm(nn.BatchNorm2d):
    """A batch norm whose work the convolution before it does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x itself."""
        return x
