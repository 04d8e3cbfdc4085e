"""What each kind of localizer trains: its network, its loss, its learning rates, its weights file."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import nn

import storage
from pipeline.localizers.rpn_lite import RpnLite, level_centres
from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.networks.efficientnet_lite import STRIDES, load_imagenet, run_stages
from pipeline.networks.weights_files import fill, parse, serialise
from training.localizers.batches import to_pixels
from training.localizers.dense_loss import dense_loss
from training.localizers.examples import Example
from training.localizers.settings import LocalizerTrainingSettings


class Task(Protocol):
    """network: the module that is trained, averaged and saved."""

    network: nn.Module

    def loss(
        self, network: nn.Module, examples: list[Example], generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Named loss terms of a batch; the step minimises their sum."""
        ...

    def groups(self) -> list[dict]:
        """Parameter groups for AdamW, each with its peak `lr`."""
        ...

    def weights(self, network: nn.Module) -> bytes:
        """A file that `localizer.checkpoint` loads."""
        ...


class RpnLiteTask:
    """`rpn-lite` on its dense loss; the backbone's batch norms keep their ImageNet statistics."""

    def __init__(self, settings: LocalizerTrainingSettings):
        self._settings = settings
        network = RpnLite()
        self._fit = network.fit
        self._backbone = network.backbone
        self.network: nn.Module = network
        initialise(network, network.backbone, settings)
        freeze_stages(self._backbone, settings.frozen_stages)
        # The frozen stages never change, so they run without gradient and with their batch norms folded in.
        self._front = copy.deepcopy(self._backbone).eval()
        fold_batch_norms(self._front)
        self._kept: dict[tuple[int, ...], list[torch.Tensor]] = {}

    def loss(
        self, network: nn.Module, examples: list[Example], generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        network.train()
        keep_statistics(self._backbone)
        device = next(network.parameters()).device
        if self._settings.views and self._settings.frozen_stages:
            kept = [self._maps_of_view(example, device) for example in examples]
            maps = [torch.cat(level).to(device).float() for level in zip(*kept, strict=True)]
            pixels = maps[-1]  # never read: every stage before `first` is there
        else:
            pixels = self._pixels(examples, device)
            maps = self._frozen_maps(pixels)
        levels = network(pixels, maps, self._settings.frozen_stages)
        size = examples[0].image.shape[0]
        centres = [level_centres(-(-size // s), -(-size // s), s, device) for s in STRIDES]
        return dense_loss(
            levels,
            centres,
            STRIDES,
            [torch.from_numpy(e.boxes).to(device) for e in examples],
            [torch.from_numpy(e.ignored).to(device) for e in examples],
        )

    def _pixels(self, examples: list[Example], device: torch.device) -> torch.Tensor:
        fit = self._fit
        return to_pixels(examples, fit.mean, fit.std).to(device, memory_format=torch.channels_last)

    @torch.no_grad()
    def _frozen_maps(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        if not self._settings.frozen_stages:
            return []
        self._front.to(pixels.device)
        return run_stages(self._front, pixels, 0, self._settings.frozen_stages)

    def _maps_of_view(self, example: Example, device: torch.device) -> list[torch.Tensor]:
        assert example.view is not None
        if example.view not in self._kept:
            maps = self._frozen_maps(self._pixels([example], device))
            self._kept[example.view] = [m.half().cpu() for m in maps]
        return self._kept[example.view]

    def groups(self) -> list[dict]:
        return split_groups(self.network, "backbone.", self._settings)

    def weights(self, network: nn.Module) -> bytes:
        metadata = {"localizer": "rpn-lite", "short_side": str(self._fit.short_side)}
        return serialise(network, metadata, torch.float16)


def initialise(network: nn.Module, backbone: nn.Module, settings: LocalizerTrainingSettings) -> None:
    """Weights before the first step: those of `settings.init`, else the backbone's own."""
    if settings.init is not None:
        tensors, _ = parse(storage.read_bytes(settings.init), settings.init)
        fill(network, tensors, settings.init)
    elif settings.backbone == "imagenet":
        load_imagenet(backbone)


def freeze_stages(backbone: nn.Module, count: int) -> None:
    """No gradient for the stem and the first `count` stages (for count > 0)."""
    if count:
        for name, parameter in backbone.named_parameters():
            stage = int(name.split(".")[1]) if name.startswith("blocks.") else -1
            parameter.requires_grad_(stage >= count)


def keep_statistics(backbone: nn.Module) -> None:
    """Batch norms in eval mode: a batch of 8 is too small to re-estimate ImageNet's statistics."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def split_groups(network: nn.Module, prefix: str, settings: LocalizerTrainingSettings) -> list[dict]:
    """Backbone and rest at their learning rates; no weight decay for vectors (biases, norms)."""
    groups: dict[tuple[bool, bool], list] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith(prefix), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.backbone_lr if backbone else settings.lr,
            "weight_decay": settings.weight_decay if matrix else 0.0,
        }
        for (backbone, matrix), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
