"""One optimiser step: micro-batches, gradients, a look at whether they are finite, and only then the update."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.data.batch import Batch
from training.devices import device_of
from training.distributed import max_over_ranks, rank, world_size
from training.optimizer import build_optimizer, clip_gradients, lr_factor, set_lr
from training.settings import TrainSettings
from training.student import memory_format

#: Model outputs and a batch -> losses: `total` with gradient, and its parts.
LossFunction = Callable[[Any, Batch], dict[str, torch.Tensor]]


class NonFinite(FloatingPointError):
    """The loss or the gradient of a step is NaN or infinite; the weights are still those before it.

    step: counted from 1. keys: the samples of this rank's batch.
    """

    def __init__(self, step: int, what: str, keys: list[str]):
        super().__init__(
            f"step {step}: the {what} is not finite; the samples of this rank: {', '.join(keys)}"
        )
        self.step, self.keys = step, keys


@dataclass(frozen=True)
class Outcome:
    """What a step gave: its losses, averaged over its micro-batches, and the norm of its gradient before clipping.

    stop: some rank was asked to stop; all ranks learn it in the same step.
    """

    losses: dict[str, torch.Tensor]
    gradient_norm: float
    stop: bool


class Step:
    """Model and optimiser of one rank. Nothing random carries over from step to step: a step seeds torch's generator by
    (seed, step, rank)."""

    def __init__(self, settings: TrainSettings, model: nn.Module, objective: LossFunction, n_steps: int):
        self.settings, self.objective, self.n_steps = settings, objective, n_steps
        self.device = device_of(settings)
        self.model = model.to(self.device, memory_format=memory_format(self.device))  # type: ignore[call-overload]
        self.parallel: nn.Module = self.model
        if world_size() > 1:
            self.parallel = DistributedDataParallel(self.model, broadcast_buffers=False)
        self.optimizer = build_optimizer(self.model, settings.optimizer)
        # At tau = 0.01 gradients are a hundred times a usual CLIP's; from 2^16, the default, it would skip
        # first steps.
        self.scaler = torch.amp.GradScaler(
            self.device.type, init_scale=2.0**10, enabled=settings.optimizer.precision == "fp16"
        )

    def __call__(self, step: int, micro_batches: list[Batch], stop: bool = False) -> Outcome:
        """Step number `step`, from 0. Raises NonFinite, on all ranks, before the weights move."""
        settings = self.settings.optimizer
        torch.manual_seed(self.settings.run.seed * 1_000_003 + step * 1009 + rank())
        set_lr(self.optimizer, settings.lr * lr_factor(step, self.n_steps, settings))
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, torch.Tensor] = {}
        for i, batch in enumerate(micro_batches):
            with self._synchronised(i == len(micro_batches) - 1):
                losses = self.losses(batch)
                self.scaler.scale(losses["total"] / len(micro_batches)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(micro_batches)
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.model, settings)
        stopped, bad_loss, largest = self._looked_at(stop, sums["total"], norm)
        if bad_loss or not (math.isfinite(largest) or self._scaler_skips()):
            what = "loss" if bad_loss else "gradient norm"
            raise NonFinite(step + 1, what, [key for batch in micro_batches for key in batch.keys])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Outcome(sums, largest, bool(stopped))

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Forward pass and losses of a micro-batch."""
        batch = batch.to(self.device)
        with autocast(self.device, self.settings.optimizer.precision):
            outputs = self.parallel(batch)
        return self.objective(outputs, batch)

    def _looked_at(self, stop: bool, total: torch.Tensor, norm: torch.Tensor) -> list[float]:
        """[stop, the loss is not finite, gradient norm], each the largest over ranks.

        It is the one moment of a step at which the host waits for the device, and its one collective besides the
        gradients': the update may only follow once the numbers are known to be finite, and every rank must decide alike.
        """
        numbers = torch.stack([(~total.isfinite()).float(), norm.float().nan_to_num(math.inf)])
        numbers = torch.cat([numbers.new_full((1,), float(stop)), numbers])
        return max_over_ranks(numbers).tolist()

    def _scaler_skips(self) -> bool:
        """fp16 alone: gradients overflow while the loss scale is too large; the scaler skips such a step and halves it."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over ranks once a step: with the last micro-batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.parallel.no_sync()

    def state_dict(self) -> dict[str, Any]:
        """The state of optimiser and scaler; the weights are the model's."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
        """Goes on from a checkpoint. Raises ValueError where the weights are those of another model."""
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as e:
            raise ValueError(f"cannot resume: the checkpoint is another model's: {e}") from e
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Mixed precision for the model's forward pass; the losses always compute in float32."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    with torch.autocast(device.type, dtypes.get(precision, torch.bfloat16), enabled=precision in dtypes):
        yield
