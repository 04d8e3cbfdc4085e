"""Small open_clip towers with random weights, whose every operation matters, and a slow twin for each encoder."""

from __future__ import annotations

import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """No zero weight and no trivial norm: a fresh ResNet's last batch norms are zero, which would hide its branches."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(torch.rand(part.weight.shape, generator=generator) + 0.5)
                part.bias.copy_(torch.randn(part.bias.shape, generator=generator) * 0.2)
                part.running_mean.copy_(torch.randn(part.bias.shape, generator=generator) * 0.2)
                part.running_var.copy_(torch.rand(part.bias.shape, generator=generator) + 0.5)
        for name, parameter in module.named_parameters():
            if not parameter.any() or name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def resnet(image_size: int = 64) -> ModifiedResNet:
    torch.manual_seed(0)
    return shaken(ModifiedResNet([1, 2, 1, 2], output_dim=24, heads=4, image_size=image_size, width=8))


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return shaken(VisionTransformer(64, 16, width=32, layers=3, heads=4, mlp_ratio=2.0, output_dim=24))


def siglip() -> TimmModel:
    torch.manual_seed(0)
    tower = TimmModel("vit_tiny_patch16_224", 0, 224, pool="map", proj="none", pretrained=False)
    tower.trunk = timm.models.VisionTransformer(
        64, 16, embed_dim=32, depth=2, num_heads=4, class_token=False, global_pool="map", num_classes=0
    )
    return shaken(tower)


def convnext() -> TimmModel:
    torch.manual_seed(0)
    return shaken(TimmModel("convnext_atto", 24, 64, pool="", proj="linear", pretrained=False))
