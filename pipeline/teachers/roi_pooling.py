"""RoIAlign with a fast gradient on the CPU.

torchvision's CPU kernel for the gradient is one thread of scalar code, a third of a training step of a ResNet student.
RoIAlign is separable: an output bin is a weighted mean of rows of a weighted mean of columns. So the gradient of a region
is two small matrix products on the part of the map that it covers.
"""

from __future__ import annotations

from typing import Any

import torch
from torchvision import ops


def roi_align(features: torch.Tensor, rois: torch.Tensor, grid: int, stride: int) -> torch.Tensor:
    """torchvision's `roi_align` (aligned, sampling_ratio 0) -> [R, C, grid, grid].

    features: the map [B, C, h, w], stride pixels a cell; rois: [R, 5], image index, then x0, y0, x1, y1 in pixels. No
    gradient flows to the rois.
    """
    if features.requires_grad and features.device.type == "cpu":
        return _RoiAlign.apply(features, rois, grid, stride)
    return ops.roi_align(features, rois, grid, 1.0 / stride, sampling_ratio=0, aligned=True)


class _RoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, rois: torch.Tensor, grid: int, stride: int) -> torch.Tensor:
        ctx.save_for_backward(rois)
        ctx.stride, ctx.shape, ctx.dtype = stride, features.shape, features.dtype
        return ops.roi_align(features, rois, grid, 1.0 / stride, sampling_ratio=0, aligned=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (rois,) = ctx.saved_tensors
        height, width = ctx.shape[2:]
        grid = gradient.shape[-1]
        edges = rois[:, 1:].float() / ctx.stride - 0.5
        rows = bin_weights(edges[:, 1], edges[:, 3], grid, height)
        columns = bin_weights(edges[:, 0], edges[:, 2], grid, width)
        out = torch.zeros(ctx.shape, dtype=torch.float32)
        for roi, image in enumerate(rois[:, 0].long().tolist()):
            y, x = _covered(rows[roi]), _covered(columns[roi])
            by_columns = gradient[roi].float() @ columns[roi, :, x]  # [C, grid, x]
            out[image, :, y, x] += rows[roi, :, y].T @ by_columns
        return out.to(ctx.dtype), None, None, None


def bin_weights(
    low: torch.Tensor, high: torch.Tensor, grid: int, size: int, samples: int = 0
) -> torch.Tensor:
    """float32 [R, grid, size]: what each cell of a side of the map gives to each bin of a roi from low to high (in cells).

    A bin has `samples` samples (0: ceil(its length)), evenly spread; a sample is interpolated between two cells, clamped
    to the border, and nothing more than one cell outside of the map.
    """
    bins = (high - low) / grid
    n_samples = torch.full_like(bins, samples) if samples else bins.ceil().clamp(min=0)
    most = max(1, int(n_samples.max())) if len(bins) else 1
    sample = torch.arange(most, device=low.device) + 0.5
    within = sample[None, :] / n_samples.clamp(min=1)[:, None]  # of a bin, [R, most]
    place = torch.arange(grid, device=low.device)[None, :, None]
    at = low[:, None, None] + bins[:, None, None] * (place + within[:, None, :])
    weight = (sample[None, None, :] < n_samples[:, None, None]) & (at >= -1) & (at <= size)
    weight = weight / n_samples.clamp(min=1)[:, None, None]
    at = at.clamp(0, size - 1)
    cell = at.floor()
    upper = weight * (at - cell)
    out = torch.zeros(len(low), grid, size, device=low.device)
    out.scatter_add_(2, cell.long(), weight - upper)
    return out.scatter_add_(2, (cell.long() + 1).clamp(max=size - 1), upper)


def _covered(weights: torch.Tensor) -> slice:
    """The cells from the first to the last that any bin takes from; weights: [grid, size]."""
    cells = weights.any(dim=0).nonzero()
    return slice(int(cells[0]), int(cells[-1]) + 1) if len(cells) else slice(0, 0)
