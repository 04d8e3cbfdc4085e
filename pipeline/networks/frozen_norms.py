"""Frozen batch norms as part of the convolutions before them, in every step anew, since the convolutions train.

A frozen norm scales and shifts each channel, so it is the same as scaled weights and a bias. That spares a pass over memory
forward and one backward, and the activation that the norm's gradient would keep. Names and values of the weights stay
what they are.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from pipeline.networks.batch_norms import convolutions_and_norms


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


def fold_frozen_norms(model: nn.Module, frozen: Collection[nn.Module]) -> None:
    """Has the convolution before each of these batch norms, which stay in evaluation mode, do the norm's work too.

    A norm of another kind, or after a convolution that we do not know or that has a bias, stays as it is.
    """
    for holder, convolution_name, norm_name in list(convolutions_and_norms(model)):
        convolution, norm = getattr(holder, convolution_name), getattr(holder, norm_name)
        known = type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d
        if known and norm in frozen and norm.affine and norm.track_running_stats and convolution.bias is None:
            convolution.__class__, norm.__class__ = _NormedConvolution, _PassedNorm
            convolution.norms = (norm,)
