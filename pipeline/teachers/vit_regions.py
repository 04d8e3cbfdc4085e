"""open_clip's VisionTransformer as a region encoder: dense features by the value path of the last attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from pipeline.teachers.region_encoder import (
    RegionEncoder,
    UnsupportedTowerError,
    average_under,
    extend_edges,
    valid_mask,
)
from pipeline.teachers.resnet_regions import positions


class ViTRegions(RegionEncoder):
    """The last block's attention is left out: each token passes through its value and output projections alone.

    MaskCLIP (Zhou et al., ECCV 2022) as CLIPSelf (ICLR 2024) uses it: the residual and the MLP stay. Every token is
    projected and L2-normalised, then averaged under the box. The class token's attention is not used, so a full box
    does not give `encode_image`: it gives the mean of the dense features.

    Positions are interpolated (bicubic) to the grid of the canvas. Padding is masked out of every attention.
    """

    def __init__(self, visual: VisionTransformer):
        super().__init__()
        blocks = visual.transformer.resblocks
        if visual.attn_pool is not None or not isinstance(blocks[-1], ResidualAttentionBlock):
            raise UnsupportedTowerError("a ViT with its own pooler or custom blocks: use features: crop")
        self.visual = visual
        self.dim = visual.output_dim
        self.stride = visual.patch_size[0]
        self.multiple_of = self.stride
        self.batch_first = visual.transformer.batch_first

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        visual = self.visual
        x = visual.conv1(images)
        batch, _, height, width = x.shape
        cells = sizes // self.stride
        mask = valid_mask(cells, height, width)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(batch, 1, -1), x], dim=1)
        x = x + self._positions(cells, height, width, padded=mask is not None).to(x.dtype)
        x = visual.ln_pre(x)
        bias = None if mask is None else attention_bias(mask, blocks_heads(visual), x.dtype)
        x = x if self.batch_first else x.transpose(0, 1)
        for block in visual.transformer.resblocks[:-1]:
            x = block(x, attn_mask=bias)
        x = value_path(visual.transformer.resblocks[-1], x)
        x = x if self.batch_first else x.transpose(0, 1)
        tokens = visual.ln_post(x[:, 1:])
        if visual.proj is not None:
            tokens = tokens @ visual.proj.to(tokens.dtype)
        tokens = F.normalize(tokens, dim=-1)
        return extend_edges(tokens.transpose(1, 2).reshape(batch, -1, height, width), cells)

    def _positions(self, cells: torch.Tensor, height: int, width: int, padded: bool) -> torch.Tensor:
        """[1 or B, 1 + h w, C]: each image's positions are those of its own grid, not of the padded canvas."""
        embedding = self.visual.positional_embedding
        if not padded:
            return positions(embedding, height, width)[None]
        return torch.stack([padded_positions(embedding, h, w, height, width) for h, w in cells.tolist()])

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        return average_under(features, rois, self.stride)


def padded_positions(embedding: nn.Parameter, h: int, w: int, height: int, width: int) -> torch.Tensor:
    """`positions` for a grid of h x w, laid at the top left of height x width: [1 + height * width, C]."""
    place = positions(embedding, h, w)
    grid = place[1:].T.reshape(-1, h, w)
    return torch.cat([place[:1], F.pad(grid, (0, width - w, 0, height - h)).flatten(1).T])


def blocks_heads(visual: VisionTransformer) -> int:
    """Attention heads a block."""
    return visual.transformer.resblocks[0].attn.num_heads


def attention_bias(mask: torch.Tensor, heads: int, dtype: torch.dtype) -> torch.Tensor:
    """bool [B, 1, h, w] -> float [B * heads, 1 + h w, 1 + h w], -inf in the columns of padding (never the class token)."""
    keys = F.pad(mask.flatten(1), (1, 0), value=True)
    bias = torch.zeros(keys.shape, dtype=dtype, device=keys.device).masked_fill(~keys, float("-inf"))
    n = keys.shape[1]
    return bias[:, None, None, :].expand(-1, heads, n, n).reshape(-1, n, n)


def value_path(block: ResidualAttentionBlock, x: torch.Tensor) -> torch.Tensor:
    """The block with attention replaced by the identity: every token attends to itself alone."""
    attention: nn.MultiheadAttention = block.attn
    width = x.shape[-1]
    value = F.linear(
        block.ln_1(x), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    )
    x = x + block.ls_1(attention.out_proj(value))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
