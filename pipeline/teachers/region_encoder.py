"""Region encoders: images and boxes -> one embedding a box, from a single pass of the image tower.

The teacher runs them without gradients and the student trains them: there is one implementation of each tower.
`region_encoder(visual)` wraps an open_clip image tower; a tower of one's own subclasses `RegionEncoder`.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.ops import roi_align


class UnsupportedTowerError(ValueError):
    """This image tower has no dense features that we know how to pool. `features: crop` works with any tower."""


class RegionEncoder(nn.Module):
    """Dense features of an image, pooled and projected under each box.

    dim: D, the width of the embeddings.
    stride: pixels a cell of the feature map. Canvases should be multiples of `multiple_of`, so that no tower drops
    a row or a column; with true sizes that are multiples of it too, nothing is padded inside a cell.
    """

    dim: int
    stride: int
    multiple_of: int

    #: Regions that pass the head together. Bounds memory; the embedding of a region does not depend on it.
    region_chunk: int = 256

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """float [B, 3, H, W], int [B, 2] (height, width of what is not padding) -> the map [B, C, h, w]."""
        raise NotImplementedError

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """The map and float [R, 5] (image index, x0, y0, x1, y1 in canvas pixels) -> embeddings [R, D]."""
        raise NotImplementedError

    def forward(
        self,
        images: torch.Tensor,
        boxes_xyxy_norm: list[torch.Tensor],
        sizes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Normalised images [B, 3, H, W] and B tensors [R_i, 4] in [0, 1] of the true image -> [sum R_i, D], in order.

        sizes: int [B, 2], the true (height, width) of each image, which lies at the top left of its canvas; None:
        the canvas is the image. What lies outside of it has no influence. Embeddings are un-normalised; gradients
        flow to every parameter. A box that covers the whole image gives the global embedding.
        """
        if sizes is None:
            sizes = torch.tensor([images.shape[2:]] * len(images), device=images.device)
        rois = rois_of(boxes_xyxy_norm, sizes.to(images.device))
        features = self.features(images, sizes)
        if len(rois) == 0:
            return features.new_zeros((0, self.dim)) + 0.0 * features.sum()
        return torch.cat([self.pool(features, chunk) for chunk in rois.split(self.region_chunk)])


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


def region_encoder(visual: nn.Module) -> RegionEncoder:
    """The encoder of an open_clip image tower (`model.visual`). Raises UnsupportedTowerError."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, ModifiedResNet):
        from pipeline.teachers.resnet_regions import ResNetRegions

        return ResNetRegions(visual)
    if isinstance(visual, VisionTransformer):
        from pipeline.teachers.vit_regions import ViTRegions

        return ViTRegions(visual)
    if isinstance(visual, TimmModel):
        from pipeline.teachers.timm_regions import timm_regions

        return timm_regions(visual)
    raise UnsupportedTowerError(f"{type(visual).__name__} has no region encoder: use features: crop")
