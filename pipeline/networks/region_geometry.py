"""Boxes on feature maps: where regions lie on a canvas, what of a map is padding, and the mean under a box.

Sizes are tensors of the CPU: what they decide is decided without waiting for a GPU.
"""

from __future__ import annotations

import torch
from torchvision.ops import roi_align

from pipeline.devices import to_device

CPU = torch.device("cpu")


def rois_of(
    boxes_xyxy_norm: list[torch.Tensor], sizes: torch.Tensor, device: torch.device = CPU
) -> torch.Tensor:
    """Boxes in [0, 1] -> float32 [sum R_i, 5]: image index, then x0, y0, x1, y1 in pixels of the canvas.

    sizes: int [B, 2], height and width of each image. device: where the boxes lie and the result will.
    """
    if not boxes_xyxy_norm:
        return torch.zeros(0, 5, device=device)
    boxes = torch.cat([b.to(device, torch.float32).reshape(-1, 4) for b in boxes_xyxy_norm])
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor([len(b) for b in boxes_xyxy_norm]))
    scale = sizes[index][:, [1, 0, 1, 0]].to(torch.float32)
    placed = to_device(torch.cat([index[:, None].to(torch.float32), scale], dim=1), device)
    return torch.cat([placed[:, :1], boxes * placed[:, 1:]], dim=1)


def average_under(features: torch.Tensor, rois: torch.Tensor, stride: int) -> torch.Tensor:
    """The mean of a map [B, C, h, w] under each roi -> [R, C] (RoIAlign to one bin, a sample a cell, aligned)."""
    return roi_align(features, rois, 1, 1.0 / stride, sampling_ratio=0, aligned=True)[:, :, 0, 0]


def valid_mask(
    sizes: torch.Tensor, height: int, width: int, device: torch.device = CPU
) -> torch.Tensor | None:
    """bool [B, 1, height, width] on the device, true within each size; None where nothing is padding."""
    if bool((sizes[:, 0] >= height).all()) and bool((sizes[:, 1] >= width).all()):
        return None
    rows = to_device(torch.arange(height)[None, :] < sizes[:, :1], device)
    columns = to_device(torch.arange(width)[None, :] < sizes[:, 1:], device)
    return rows[:, None, :, None] & columns[:, None, None, :]


def extend_edges(features: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """A padded map [B, C, h, w] with its padding filled from the nearest true cell; cells: int [B, 2], true (h, w).

    RoIAlign clamps at the border of the map. With the edge repeated, it does the same at the border of the image.
    """
    _, _, height, width = features.shape
    if valid_mask(cells, height, width) is None:
        return features
    rows = to_device(torch.arange(height).clamp(max=(cells[:, :1] - 1).clamp(min=0)), features.device)
    columns = to_device(torch.arange(width).clamp(max=(cells[:, 1:] - 1).clamp(min=0)), features.device)
    image = torch.arange(len(features), device=features.device)
    return features.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )
