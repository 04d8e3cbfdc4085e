"""timm towers of open_clip as region encoders: ConvNeXt and other plain convolutional nets, and SigLIP's ViT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import AttentionPoolLatent, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pipeline.networks.region_geometry import average_under, extend_edges, valid_mask
from pipeline.teachers.region_encoder import RegionEncoder, UnsupportedTowerError


def timm_regions(visual: TimmModel) -> RegionEncoder:
    """The encoder of a timm tower. Raises UnsupportedTowerError."""
    if isinstance(visual.trunk, VisionTransformer):
        return TimmViTRegions(visual)
    if "pool" not in visual.head._modules and hasattr(visual.trunk, "forward_head"):
        return TimmConvRegions(visual)
    raise UnsupportedTowerError(f"{type(visual.trunk).__name__}: use features: crop")


class TimmConvRegions(RegionEncoder):
    """The final map of a convolutional net averaged under each box, then the net's own head (norm and projection).

    A full box gives `encode_image`, up to rounding. A padded batch runs one size at a time, so that no padding is seen.
    """

    def __init__(self, visual: TimmModel):
        super().__init__()
        self.visual = visual
        self.stride = self.multiple_of = int(visual.trunk.feature_info[-1]["reduction"])
        self.dim = _output_dim(visual)

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        if valid_mask(sizes, *images.shape[2:]) is None:
            return self._map(images)
        cells = sizes // self.stride
        height, width = images.shape[2] // self.stride, images.shape[3] // self.stride
        maps: list[torch.Tensor] = [images] * len(images)
        for h, w in sorted({(h, w) for h, w in sizes.tolist()}):
            same = ((sizes[:, 0] == h) & (sizes[:, 1] == w)).nonzero()[:, 0]
            found = self._map(images[same, :, :h, :w])
            found = F.pad(found, (0, width - found.shape[3], 0, height - found.shape[2]))
            for place, row in zip(same.tolist(), found, strict=True):
                maps[place] = row
        return extend_edges(torch.stack(maps), cells)

    def _map(self, images: torch.Tensor) -> torch.Tensor:
        x = self.visual.trunk.forward_features(images)
        if x.ndim != 4 or x.shape[2] * self.stride != images.shape[2]:
            raise UnsupportedTowerError(
                f"{type(self.visual.trunk).__name__}: no [B, C, h, w] map: use features: crop"
            )
        return x

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        x = average_under(features, rois, self.stride)[:, :, None, None]
        return self.visual.head(self.visual.trunk.forward_head(x))


class TimmViTRegions(RegionEncoder):
    """SigLIP's ViT: every token passes through the value path of the attention pool, then is averaged under the box.

    The pool's query is left out as MaskCLIP leaves out the class token's. Tokens are L2-normalised before the mean.
    """

    def __init__(self, visual: TimmModel):
        super().__init__()
        trunk = visual.trunk
        if (
            not isinstance(trunk.attn_pool, AttentionPoolLatent)
            or trunk.pos_embed is None
            or trunk.num_prefix_tokens
        ):
            raise UnsupportedTowerError("a timm ViT without SigLIP's attention pool: use features: crop")
        self.visual = visual
        self.stride = self.multiple_of = int(trunk.patch_embed.patch_size[0])
        self.dim = _output_dim(visual)

    def features(self, images: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        trunk = self.visual.trunk
        x = trunk.patch_embed.proj(images)
        batch, _, height, width = x.shape
        cells = sizes // self.stride
        mask = valid_mask(cells, height, width, images.device)
        x = trunk.patch_embed.norm(x.flatten(2).transpose(1, 2))
        x = trunk.norm_pre(trunk.pos_drop(x + self._positions(cells, height, width, padded=mask is not None)))
        keys = (
            None if mask is None else mask.flatten(2)[:, :, None, :]
        )  # [B, 1, 1, h w]: broadcast over queries
        for block in trunk.blocks:
            x = block(x) if keys is None else block(x, attn_mask=keys)
        x = _pool_value_path(trunk.attn_pool, trunk.norm(x))
        x = F.normalize(self.visual.head(trunk.head(trunk.fc_norm(x))), dim=-1)
        return extend_edges(x.transpose(1, 2).reshape(batch, -1, height, width), cells)

    def _positions(self, cells: torch.Tensor, height: int, width: int, padded: bool) -> torch.Tensor:
        """[1 or B, h w, C]: each image's positions are those of its own grid, not of the padded canvas."""
        embedding = self.visual.trunk.pos_embed
        if not padded:
            return resample_abs_pos_embed(embedding, [height, width], num_prefix_tokens=0)
        placed = []
        for h, w in cells.tolist():
            grid = resample_abs_pos_embed(embedding, [h, w], num_prefix_tokens=0)[0].T.reshape(-1, h, w)
            placed.append(F.pad(grid, (0, width - w, 0, height - h)).flatten(1).T)
        return torch.stack(placed)

    def pool(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        return average_under(features, rois, self.stride)


def _pool_value_path(pool: AttentionPoolLatent, x: torch.Tensor) -> torch.Tensor:
    """What the pool gives a token that attends to itself alone, for every token [B, N, C]."""
    value = F.linear(x, *(None if p is None else p.chunk(2)[1] for p in (pool.kv.weight, pool.kv.bias)))
    x = pool.proj(value)
    return x if pool.mlp is None else x + pool.mlp(pool.norm(x))


def _output_dim(visual: TimmModel) -> int:
    projection = getattr(visual.head, "proj", None) or getattr(visual.head, "mlp", None)
    if isinstance(projection, nn.Linear):
        return projection.out_features
    if projection is not None:
        return projection.fc2.out_features
    return visual.trunk.num_classes or visual.trunk.num_features
