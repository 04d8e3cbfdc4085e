"""The training loop: steps, averaged weights, checkpoints, resume. No Ray, no logging, no clock."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import storage
from training.distributed import max_over_ranks
from training.localizers.batches import Mixture
from training.localizers.settings import LocalizerTrainingSettings
from training.localizers.tasks import Task


@dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` optimiser steps; `losses` are that step's terms."""

    step: int
    losses: dict[str, float]
    gradient_norm: float


def learning_rate_factor(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class Trainer:
    """One worker's training state.

    The average of the weights (`averaged`, an exponential moving average) is what is measured and saved.
    """

    def __init__(
        self,
        task: Task,
        mixture: Mixture,
        settings: LocalizerTrainingSettings,
        *,
        worker: int = 0,
        workers: int = 1,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ):
        self._task = task
        self._mixture = mixture
        self._settings = settings
        self._worker, self._workers = worker, workers
        self.optimizer = torch.optim.AdamW(task.groups(), fused=True)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._trained = wrap(task.network)
        self.averaged = copy.deepcopy(task.network).requires_grad_(False)
        self.step = 0

    def run(self) -> Iterator[Progress]:
        """Trains until `settings.steps`, one `Progress` a step. Raises FloatingPointError before the
        weights move, on all workers, where loss or gradient norm of one is not finite."""
        while self.step < self._settings.steps:
            yield self._one_step()

    def _one_step(self) -> Progress:
        settings = self._settings
        factor = learning_rate_factor(self.step, settings.warmup_steps, settings.steps)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        examples = self._mixture.batch(
            self.step, settings.batch_images, self._worker, self._workers, settings.augment
        )
        generator = torch.Generator().manual_seed(
            (settings.seed * 1_000_003 + self.step) * self._workers + self._worker
        )
        losses = self._task.loss(self._trained, examples, generator)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        bad = max_over_ranks(torch.stack([~torch.isfinite(total), ~torch.isfinite(norm)]).float()).tolist()
        if any(bad):
            what = "loss" if bad[0] else "gradient norm"
            raise FloatingPointError(
                f"step {self.step + 1}: the {what} is not finite; the weights have not moved"
            )
        self.optimizer.step()
        self.step += 1
        self._average()
        return Progress(self.step, {k: float(v.detach()) for k, v in losses.items()}, float(norm))

    @torch.no_grad()
    def _average(self) -> None:
        # Short runs must not be dominated by the initial weights: the decay grows with the step.
        decay = min(self._settings.ema, (1 + self.step) / (10 + self.step))
        for mean, value in zip(
            self.averaged.state_dict().values(), self._task.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def save(self, path: Path) -> None:
        """The whole state."""
        state = {
            "model": self._task.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        storage.write_bytes(str(path), buffer.getvalue())

    def restore(self, path: Path) -> None:
        """Continues from `save`."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self._task.network.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
