"""RoIAlign, several times as fast on a CPU as torchvision's, most of all its gradient.

torchvision's CPU kernels are scalar code, and its gradient runs in one thread: a third of a training step of a ResNet
student. RoIAlign is separable: an output bin is a weighted mean of rows of a weighted mean of columns. So a region is two
small matrix products on the part of the map that it covers, and so is its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torchvision import ops


def roi_align(
    features: torch.Tensor, rois: torch.Tensor, grid: int, stride: int, average: int = 1
) -> torch.Tensor:
    """torchvision's `roi_align` (aligned, sampling_ratio 0) -> [R, C, grid // average, grid // average].

    features: the map [B, C, h, w], stride pixels a cell; rois: [R, 5], image index, then x0, y0, x1, y1 in pixels. No
    gradient flows to the rois. average: bins a side of the average pool that follows.
    """
    if features.device.type == "cpu":
        return _on_cpu(features, rois, grid, stride, average)
    out = ops.roi_align(features, rois, grid, 1.0 / stride, sampling_ratio=0, aligned=True)
    return F.avg_pool2d(out, average) if average > 1 else out


@torch.compiler.disable  # a compiler would unroll the loop over regions
def _on_cpu(features: torch.Tensor, rois: torch.Tensor, grid: int, stride: int, average: int) -> torch.Tensor:
    return _RoiAlign.apply(features, rois, grid, stride, average).permute(0, 3, 1, 2)


class _RoiAlign(torch.autograd.Function):
    """In float32, whatever autocast says; channels last: [R, side, side, C]."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any, features: torch.Tensor, rois: torch.Tensor, grid: int, stride: int, average: int
    ) -> torch.Tensor:
        parts = _parts(rois, features.shape, grid, stride, average)
        ctx.parts, ctx.shape, ctx.dtype = parts, features.shape, features.dtype
        maps = features.float().permute(0, 2, 3, 1).contiguous()
        side, channels = grid // average, features.shape[1]
        out = maps.new_empty((len(rois), side, side, channels))
        for into, (image, y, x, rows, columns) in zip(out, parts, strict=True):
            by_columns = torch.bmm(columns.expand(len(rows.T), -1, -1), maps[image, y, x])  # [y, side, C]
            torch.mm(rows, by_columns.flatten(1), out=into.view(side, -1))
        return out.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        batch, channels, height, width = ctx.shape
        side = gradient.shape[1]
        upstream = gradient.float().contiguous()
        out = upstream.new_zeros((batch, height, width, channels))
        for part, (image, y, x, rows, columns) in zip(upstream, ctx.parts, strict=True):
            by_columns = (rows.T @ part.view(side, -1)).view(-1, side, channels)  # [y, side, C]
            out[image, y, x].baddbmm_(columns.T.expand(len(by_columns), -1, -1), by_columns)
        return out.permute(0, 3, 1, 2).to(ctx.dtype), None, None, None, None


def _parts(
    rois: torch.Tensor, shape: torch.Size, grid: int, stride: int, average: int
) -> list[tuple[int, slice, slice, torch.Tensor, torch.Tensor]]:
    """For each roi its image, the rows and columns of the map that it covers, and their weights [grid // average, n]."""
    edges = rois[:, 1:].float() / stride - 0.5
    sides = []
    for axis, size in ((1, shape[2]), (0, shape[3])):
        weights = bin_weights(edges[:, axis], edges[:, axis + 2], grid, size)
        weights = weights[:, : grid // average * average].unflatten(1, (-1, average)).mean(dim=2)
        used = (weights != 0).any(dim=1).int()
        first, end = used.argmax(dim=1), size - used.flip(1).argmax(dim=1)
        nothing = used.sum(dim=1) == 0
        cells = [
            slice(a, 0 if n else b)
            for a, b, n in zip(*(t.tolist() for t in (first, end, nothing)), strict=True)
        ]
        sides.append((cells, [w[:, c] for w, c in zip(weights, cells, strict=True)]))
    (ys, rows), (xs, columns) = sides
    return list(zip(rois[:, 0].long().tolist(), ys, xs, rows, columns, strict=True))


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
