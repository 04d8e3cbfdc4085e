"""open_clip's image towers as region encoders: which of ours fits which of its classes."""

from __future__ import annotations

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from pipeline.teachers.region_encoder import RegionEncoder, UnsupportedTowerError
from pipeline.teachers.resnet_regions import ResNetRegions
from pipeline.teachers.timm_regions import timm_regions
from pipeline.teachers.vit_regions import ViTRegions


def region_encoder(visual: nn.Module) -> RegionEncoder:
    """The encoder of an open_clip image tower (`model.visual`). Raises UnsupportedTowerError."""
    if isinstance(visual, ModifiedResNet):
        return ResNetRegions(visual)
    if isinstance(visual, VisionTransformer):
        return ViTRegions(visual)
    if isinstance(visual, TimmModel):
        return timm_regions(visual)
    raise UnsupportedTowerError(f"{type(visual).__name__} has no region encoder: use features: crop")
