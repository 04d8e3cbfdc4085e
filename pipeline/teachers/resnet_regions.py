"""CLIP's ModifiedResNet as a region encoder (RegionCLIP, CVPR 2022): RoIAlign on res4, then layer4 and attention pool."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from torch import nn

from pipeline.networks.region_geometry import extend_edges, valid_mask
from pipeline.networks.roi_pooling import roi_align
from pipeline.teachers.region_encoder import RegionEncoder


class ResNetRegions(RegionEncoder):
    """One pass to res4 (stride 16), RoIAlign to twice the attention pool's grid, layer4 and pool on the regions.

    14 x 14 -> 7 x 7 for RN50, 18 x 18 -> 9 x 9 for RN50x4 (PARITY 17-18). A full box on an image of the model's own
    size gives `encode_image` exactly, since each bin then has one sample, at a cell's centre.

    region_grid: bins a side of RoIAlign; 0: the model's own. With another value the attention pool's positions are
    interpolated (bicubic).
    mask_padding: zero what lies outside an image's true size before every spatial operation, so that a batch
    equals one image at a time. RegionCLIP does not do it (its padding bleeds in at the right and bottom edge).
    """

    stride = 16
    multiple_of = 32
    region_chunk = 128

    def __init__(self, visual: ModifiedResNet, region_grid: int = 0, mask_padding: bool = True):
        super().__init__()
        self.visual = visual
        self.dim = visual.output_dim
        self.region_grid = region_grid or visual.image_size // 16
        self.mask_padding = mask_padding

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        visual = self.visual
        x = visual.act1(visual.bn1(visual.conv1(self._masked(images, sizes))))
        sizes = (sizes + 1) // 2  # conv1: kernel 3, stride 2, padding 1
        x = visual.act2(visual.bn2(visual.conv2(self._masked(x, sizes))))
        x = visual.act3(visual.bn3(visual.conv3(self._masked(x, sizes))))
        x, sizes = visual.avgpool(x), sizes // 2
        for layer in (visual.layer1, visual.layer2, visual.layer3):
            for block in layer:
                x, sizes = self._block(block, x, sizes)
        return extend_edges(x, sizes) if self.mask_padding else x

    def _masked(self, x: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        mask = valid_mask(sizes, x.shape[2], x.shape[3], x.device) if self.mask_padding else None
        return x if mask is None else x * mask

    def _block(
        self, block: Bottleneck, x: torch.Tensor, sizes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`Bottleneck.forward` with the padding zeroed before its only spatial operation, conv2."""
        out = self._masked(block.act1(block.bn1(block.conv1(x))), sizes)
        identity = x if block.downsample is None else block.downsample(x)
        return _rest_of_block(block, out, identity), sizes // block.stride

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        layer4, grid = self.visual.layer4, self.region_grid
        first: Bottleneck = layer4[0]
        if first.bn1.training:
            x = roi_align(features, rois, grid, self.stride)
            x = first(x)
        else:
            x = self._first_block(first, features, rois)
        for block in layer4[1:]:
            x = block(x)
        return attention_pool(self.visual.attnpool, x)

    def _first_block(self, block: Bottleneck, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """The first block of layer4 with its 1x1 convolution done once on the map and not again in every region, and with
        the average pool of its shortcut as a part of RoIAlign.

        A 1x1 convolution with a frozen batch norm is affine a cell, and RoIAlign is a weighted mean with weights
        that sum to 1 (boxes lie inside the map): they commute. Only the ReLU must come after.
        """
        grid, stride = self.region_grid, self.stride
        out = block.act1(roi_align(block.bn1(block.conv1(features)), rois, grid, stride))
        pool, *rest = block.downsample
        identity = roi_align(features, rois, grid, stride, average=pool.kernel_size)
        return _rest_of_block(block, out, nn.Sequential(*rest)(identity))


def _rest_of_block(block: Bottleneck, out: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
    """What follows `act1` in `Bottleneck.forward`."""
    out = block.act2(block.bn2(block.conv2(out)))
    out = block.bn3(block.conv3(block.avgpool(out)))
    return block.act3(out + identity)


def attention_pool(pool: AttentionPool2d, x: torch.Tensor) -> torch.Tensor:
    """`AttentionPool2d.forward` for [R, C, h, w], in the order of operations that one query allows -> [R, D].

    Only the mean token asks, so keys and values are never formed. With q the query of a head, its score for token x
    is (W_k^T q) . x (the bias of k adds the same to every token and cancels in the softmax), and its output is
    W_v (sum_j a_j x_j) + b_v. For 7 x 7 x 2048 that is 20 M multiply-adds a region in the place of 735 M.
    """
    regions, channels, height, width = x.shape
    heads, per_head = pool.num_heads, channels // pool.num_heads
    tokens = x.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + positions(pool.positional_embedding, height, width).to(tokens.dtype)
    query = F.linear(tokens[:, 0], pool.q_proj.weight, pool.q_proj.bias) * per_head**-0.5
    query = query.view(regions, heads, per_head).transpose(0, 1)  # [heads, R, per_head]
    key_query = torch.bmm(query, pool.k_proj.weight.view(heads, per_head, channels).to(query.dtype))
    scores = torch.bmm(key_query.transpose(0, 1), tokens.transpose(1, 2))  # [R, heads, tokens]
    mixed = torch.bmm(scores.softmax(dim=-1).to(tokens.dtype), tokens)  # [R, heads, channels]
    values = pool.v_proj.weight.view(heads, per_head, channels).transpose(1, 2)
    out = torch.bmm(mixed.transpose(0, 1), values.to(mixed.dtype)).transpose(0, 1).reshape(regions, channels)
    return F.linear(out + pool.v_proj.bias.to(out.dtype), pool.c_proj.weight, pool.c_proj.bias)


def positions(embedding: nn.Parameter, height: int, width: int) -> torch.Tensor:
    """[1 + n * n, C] learned positions for a grid of height x width, interpolated (bicubic) where the grid differs."""
    side = round((len(embedding) - 1) ** 0.5)
    if (height, width) == (side, side):
        return embedding
    grid = embedding[1:].T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False, antialias=False)
    return torch.cat([embedding[:1], grid[0].flatten(1).T])
