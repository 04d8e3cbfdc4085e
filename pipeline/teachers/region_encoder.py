"""Region encoders: images and boxes -> one embedding a box, from a single pass of the image tower.

The teacher runs them without gradients and the student trains them: there is one implementation of each tower.
`open_clip_regions.region_encoder` wraps an open_clip image tower; a tower of one's own subclasses `RegionEncoder`.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.networks.region_geometry import rois_of


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
        """float [B, 3, H, W], int [B, 2] on the CPU (height, width of what is not padding) -> the map [B, C, h, w]."""
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
            sizes = torch.tensor([images.shape[2:]] * len(images))
        sizes = sizes.cpu()
        rois = rois_of(boxes_xyxy_norm, sizes, images.device)
        features = self.features(images, sizes)
        if len(rois) == 0:
            return features.new_zeros((0, self.dim)) + 0.0 * features.sum()
        return torch.cat([self.pool(features, chunk) for chunk in rois.split(self.region_chunk)])
