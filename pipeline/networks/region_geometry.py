"""Boxes on feature maps: where regions lie on a canvas, what of a map is padding, and the mean under a box."""

from __future__ import annotations

import torch
from torchvision.ops import roi_align


def rois_of(boxes_xyxy_norm: list[torch.Tensor], sizes: torch.Tensor) -> torch.Tensor:
    """Boxes in [0, 1] -> float32 [sum R_i, 5]: image index, then x0, y0, x1, y1 in pixels of the canvas."""
    rows = []
    for index, boxes in enumerate(boxes_xyxy_norm):
        height, width = sizes[index]
        scale = torch.stack([width, height, width, height]).to(torch.float32)
        boxes = boxes.to(sizes.device, torch.float32).reshape(-1, 4) * scale
        rows.append(torch.cat([boxes.new_full((len(boxes), 1), index), boxes], dim=1))
    return torch.cat(rows) if rows else torch.zeros(0, 5, device=sizes.device)


def average_under(features: torch.Tensor, rois: torch.Tensor, stride: int) -> torch.Tensor:
    """The mean of a map [B, C, h, w] under each roi -> [R, C] (RoIAlign to one bin, a sample a cell, aligned)."""
    return roi_align(features, rois, 1, 1.0 / stride, sampling_ratio=0, aligned=True)[:, :, 0, 0]


def valid_mask(sizes: torch.Tensor, height: int, width: int) -> torch.Tensor | None:
    """bool [B, 1, height, width], true within each size; None where nothing is padding."""
    if bool((sizes[:, 0] >= height).all()) and bool((sizes[:, 1] >= width).all()):
        return None
    rows = torch.arange(height, device=sizes.device)[None, :] < sizes[:, :1]
    columns = torch.arange(width, device=sizes.device)[None, :] < sizes[:, 1:]
    return rows[:, None, :, None] & columns[:, None, None, :]


def extend_edges(features: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """A padded map [B, C, h, w] with its padding filled from the nearest true cell; cells: int [B, 2], true (h, w).

    RoIAlign clamps at the border of the map. With the edge repeated, it does the same at the border of the image.
    """
    _, _, height, width = features.shape
    if valid_mask(cells, height, width) is None:
        return features
    rows = torch.arange(height, device=features.device).clamp(max=(cells[:, :1] - 1).clamp(min=0))
    columns = torch.arange(width, device=features.device).clamp(max=(cells[:, 1:] - 1).clamp(min=0))
    image = torch.arange(len(features), device=features.device)
    return features.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )
