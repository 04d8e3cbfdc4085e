"""open_clip's VisionTransformer as a region encoder: dense features by the value path of the last attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from pipeline.networks.region_geometry import average_under, extend_edges, valid_mask
from pipeline.teachers.region_encoder import RegionEncoder, UnsupportedTowerError
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
        plain = all(type(block) is ResidualAttentionBlock for block in blocks)
        if visual.attn_pool is not None or not plain:
            raise UnsupportedTowerError("a ViT with its own pooler or custom blocks: use features: crop")
        self.visual = visual
        self.dim = visual.output_dim
        self.stride = visual.patch_size[0]
        self.multiple_of = self.stride
        self._placed: dict[tuple[int, ...], torch.Tensor] = {}

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        visual = self.visual
        x = visual.conv1(images)
        batch, _, height, width = x.shape
        cells = sizes // self.stride
        mask = valid_mask(cells, height, width, images.device)
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(batch, 1, -1), x], dim=1)
        x = x + self._positions(cells, height, width, padded=mask is not None).to(x.dtype)
        x = visual.ln_pre(x)
        keys = None if mask is None else F.pad(mask.flatten(1), (1, 0), value=True)[:, None, None, :]
        for block in visual.transformer.resblocks[:-1]:
            x = x + block.ls_1(attention(block.attn, block.ln_1(x), keys))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        x = value_path(visual.transformer.resblocks[-1], x)
        tokens = visual.ln_post(x[:, 1:])
        if visual.proj is not None:
            tokens = tokens @ visual.proj.to(tokens.dtype)
        tokens = F.normalize(tokens, dim=-1)
        return extend_edges(tokens.transpose(1, 2).reshape(batch, -1, height, width), cells)

    def _positions(self, cells: torch.Tensor, height: int, width: int, padded: bool) -> torch.Tensor:
        """[1 or B, 1 + h w, C]: each image's positions are those of its own grid, not of the padded canvas."""
        embedding = self.visual.positional_embedding
        if not padded:
            return self._unpadded(embedding, height, width)[None]
        return torch.stack([padded_positions(embedding, h, w, height, width) for h, w in cells.tolist()])

    def _unpadded(self, embedding: nn.Parameter, height: int, width: int) -> torch.Tensor:
        """`positions`; of a frozen tower kept for the next pass, since interpolating takes a sixth of a small pass."""
        if embedding.requires_grad:
            return positions(embedding, height, width)
        key = (height, width, embedding.data_ptr(), embedding._version)
        if key not in self._placed:
            found = positions(embedding, height, width)
            if found.device.type == "cuda":
                torch.cuda.current_stream(found.device).synchronize()  # other streams will read it
            self._placed = {**dict(list(self._placed.items())[-63:]), key: found}
        return self._placed[key]

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        return average_under(features, rois, self.stride)


def padded_positions(embedding: nn.Parameter, h: int, w: int, height: int, width: int) -> torch.Tensor:
    """`positions` for a grid of h x w, laid at the top left of height x width: [1 + height * width, C]."""
    place = positions(embedding, h, w)
    grid = place[1:].T.reshape(-1, h, w)
    return torch.cat([place[:1], F.pad(grid, (0, width - w, 0, height - h)).flatten(1).T])


def attention(layer: nn.MultiheadAttention, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
    """Self-attention of [B, n, C] to the `keys` (bool [B, 1, 1, n]; None: all), by the fused kernel.

    At 800 px a ViT-B/16 has 3,301 tokens: the module's own path would write 0.5 GB of weights a layer and image.
    """
    qkv = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).unflatten(-1, (3, layer.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
    return layer.out_proj(out.transpose(1, 2).flatten(2))


def value_path(block: ResidualAttentionBlock, x: torch.Tensor) -> torch.Tensor:
    """The block with attention replaced by the identity: every token attends to itself alone."""
    attention: nn.MultiheadAttention = block.attn
    width = x.shape[-1]
    value = F.linear(
        block.ln_1(x), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    )
    x = x + block.ls_1(attention.out_proj(value))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
