"""What `detr`, `dab-detr` and `dn-detr` train."""

from __future__ import annotations

import copy

import torch
from torch import nn

from pipeline.localizers.set_network import LAST_STAGE, SetNetwork, centres
from pipeline.localizers.set_predictors import build
from pipeline.networks.batch_norms import fold_batch_norms
from training.localizers.batches import to_pixels
from training.localizers.denoising import denoising_queries, split
from training.localizers.examples import Example
from training.localizers.set_loss import denoising_loss, set_loss
from training.localizers.settings import LocalizerTrainingSettings
from training.localizers.tasks import freeze_stages, initialise, keep_statistics, split_groups


class SetTask:
    """A set predictor on matched and, for `dn-detr`, denoising losses.

    With `frozen_stages` 5 or more the whole backbone is frozen: tokens are computed without gradient, and only once a
    view where `views` are kept.
    """

    def __init__(self, settings: LocalizerTrainingSettings):
        self._settings = settings
        network: SetNetwork = build(settings.kind, settings.shape)
        self.network: nn.Module = network
        self._net = network
        initialise(network, network.backbone, settings)
        freeze_stages(network.backbone, settings.frozen_stages)
        self._front = copy.deepcopy(network).eval().requires_grad_(False)
        fold_batch_norms(self._front.backbone)
        self._kept: dict[tuple[int, ...], torch.Tensor] = {}

    def loss(
        self, network: nn.Module, examples: list[Example], generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        network.train()
        keep_statistics(self._net.backbone)
        device = next(network.parameters()).device
        inputs = self.inputs(examples, device)
        objects = [relative_centres(e).to(device) for e in examples]
        if self._settings.kind != "dn-detr":
            return set_loss(network(inputs), objects)
        made = denoising_queries(objects, self._settings.shape.queries, self._settings.denoising, generator)
        if made is None:
            return set_loss(network(inputs), objects)
        queries, targets = made
        noised, matched = split(network(inputs, queries), queries.labels.shape[1])
        return set_loss(matched, objects) | denoising_loss(noised, targets)

    def inputs(self, examples: list[Example], device: torch.device) -> torch.Tensor:
        """Tokens where the backbone is frozen, else pixels."""
        fit = self._net.fit
        if self._settings.frozen_stages < LAST_STAGE:
            return to_pixels(examples, fit.mean, fit.std).to(device)
        self._front.to(device)
        fresh = [e for e in examples if e.view is None or e.view not in self._kept]
        with torch.no_grad():
            made = iter(self._front.tokens(to_pixels(fresh, fit.mean, fit.std).to(device)) if fresh else ())
        rows = []
        for example in examples:
            kept = None if example.view is None else self._kept.get(example.view)
            tokens = next(made) if kept is None else kept.to(device).float()
            if example.view is not None and kept is None:
                self._kept[example.view] = tokens.half().cpu()
                tokens = tokens.half().float()  # a kept view gives the same numbers the first time
            rows.append(tokens)
        return torch.stack(rows)

    def groups(self) -> list[dict]:
        return split_groups(self.network, "backbone.", self._settings)

    def weights(self, network: nn.Module) -> bytes:
        assert isinstance(network, SetNetwork)
        return network.weights_file(self._settings.kind)


def relative_centres(example: Example) -> torch.Tensor:
    """An example's boxes as float32 [M, 4] centre x, y, width, height in [0, 1]."""
    height, width = example.image.shape[:2]
    boxes = torch.from_numpy(example.boxes / [width, height, width, height]).float()
    return centres(boxes.reshape(-1, 4))
