"""One training of a model by an objective: one process or many, resumable at every checkpoint to the same last bit.

Nothing random carries over from step to step: the data order, the views and the torch generator of a step are functions
of (seed, step), so a run that is killed and resumed repeats the undisturbed one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.dataset.manifest import Manifest, read_manifest
from training.checkpoint import (
    Checkpoint,
    best_score,
    checkpoint_steps,
    load_checkpoint,
    mark_best,
    prune_checkpoints,
    save_checkpoint,
)
from training.data.batch import Batch
from training.data.loader import Loader
from training.distributed import max_over_ranks, rank, sum_over_ranks, world_size
from training.monitor import Monitor, Stopwatch, peak_rss_gib
from training.optimizer import build_optimizer, clip_gradients, lr_factor, set_lr
from training.settings import TrainSettings
from training.student import memory_format

#: Model outputs and a batch -> losses: `total` with gradient, and its parts.
LossFunction = Callable[[Any, Batch], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Hooks:
    """What the caller adds to a run.

    evaluate: model and step -> metrics, every `run.evaluate_every` steps and at the end; the smallest `score` marks
    the best checkpoint. Without it the mean loss on the held-out samples is the score.
    stop: asked after every step; True saves a checkpoint and ends the run (a job sets it on SIGTERM).
    """

    evaluate: Callable[[nn.Module, int], dict[str, float]] | None = None
    stop: Callable[[], bool] = lambda: False
    progress: bool = False


def run_stage(
    settings: TrainSettings, model: nn.Module, objective: LossFunction, hooks: Hooks
) -> dict[str, Any]:
    """One training of `model` by `objective` from step 0 (or the newest checkpoint) to the last."""
    manifest = read_manifest(settings.data.dataset)
    loader = make_loader(settings, manifest)
    stage = _Stage(settings, model, objective, hooks, loader)
    first_step = stage.resume()
    monitor = None
    if rank() == 0:
        out = Path(settings.run.out)
        monitor = Monitor(out, first_step, stage.n_steps, settings.run.tensorboard, hooks.progress)
        text = json.dumps(dataclasses.asdict(settings), indent=2)
        (out / "settings.json").write_text(text, encoding="utf-8")
    try:
        summary = stage.run(first_step, monitor)
    finally:
        loader.close()
        if monitor is not None:
            monitor.close()
    if monitor is not None:
        text = json.dumps(summary, indent=2)
        (Path(settings.run.out) / "summary.json").write_text(text, encoding="utf-8")
    return summary


def make_loader(settings: TrainSettings, manifest: Manifest, held: bool = False) -> Loader:
    """This rank's loader; `held`: of the held-out samples, unmirrored."""
    view = replace(settings.view, flip="never") if held else settings.view
    return Loader(
        manifest,
        settings.data,
        view,
        seed=settings.run.seed,
        folder=str(Path(settings.run.out) / "buffer"),
        accumulate=settings.optimizer.accumulate,
        rank=rank(),
        world=world_size(),
        held_out=settings.run.held_out,
        held=held,
        pin_memory=device_of(settings).type == "cuda",
        embeddings=settings.loss.distill != "logits",
    )


def device_of(settings: TrainSettings) -> torch.device:
    """The device of this rank."""
    name = settings.run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device() if world_size() > 1 else 0)
    return torch.device(name)


def n_steps_of(settings: TrainSettings) -> int:
    """The number of steps of a run, for which the samples of its subset may have to be counted."""
    if settings.run.steps:
        return settings.run.steps
    loader = make_loader(settings, read_manifest(settings.data.dataset))
    loader.close()
    return epoch_steps(settings, loader.n_samples)


def epoch_steps(settings: TrainSettings, n_samples: int) -> int:
    """The steps in which `run.epochs` passes over n_samples fit."""
    return math.ceil(settings.run.epochs * n_samples / settings.data.batch_images)


class _Stage:
    """Model, optimiser, loader and objective of one training."""

    def __init__(
        self, settings: TrainSettings, model: nn.Module, objective: LossFunction, hooks: Hooks, loader: Loader
    ):
        self.settings, self.hooks, self.loader, self.objective = settings, hooks, loader, objective
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
        self.folder = Path(settings.run.out) / "checkpoints"
        self.n_steps = settings.run.steps or epoch_steps(settings, loader.n_samples)
        self._held: Loader | None = None

    def resume(self) -> int:
        """Loads the newest checkpoint, if there is one; returns the number of steps done."""
        steps = checkpoint_steps(self.folder)
        if not steps:
            return 0
        if self.settings.run.resume == "never":
            raise ValueError(f"run.out: {self.settings.run.out} holds a run; run.resume auto continues it")
        checkpoint = load_checkpoint(self.folder, steps[-1])
        self.loader.load_state_dict(checkpoint.state["loader"])
        self.model.load_state_dict(checkpoint.weights)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.scaler.load_state_dict(checkpoint.state["scaler"])
        return checkpoint.step

    def run(self, first_step: int, monitor: Monitor | None) -> dict[str, Any]:
        """Steps first_step to n_steps; returns the summary."""
        run, watch, total = self.settings.run, Stopwatch(), Stopwatch()
        step, stopped, values = first_step, False, {"loss": math.nan}
        evaluated: dict[str, float] = {}
        if step >= self.n_steps and (Path(run.out) / "summary.json").exists():
            return json.loads((Path(run.out) / "summary.json").read_text(encoding="utf-8"))
        self.parallel.train()
        batches = total.waiting(watch.waiting(self.loader.steps(self.n_steps - first_step)))
        for micro_batches in batches:
            losses = self._step(step, micro_batches)
            step += 1
            if monitor is not None:
                monitor.advance()
                if run.log_keys:
                    monitor.keys(step, [k for b in micro_batches for k in b.keys])
            if step % run.log_every == 0 or step == self.n_steps:
                values = self._log(step, losses, watch, monitor)
            best = False
            if run.evaluate_every and (step % run.evaluate_every == 0 or step == self.n_steps):
                evaluated = self._evaluate(step, monitor)
                score = best_score(self.folder)
                best = "score" in evaluated and (score is None or evaluated["score"] < score)
                watch.restart()
            stopped = self._should_stop() and step < self.n_steps
            if best or stopped or step % run.checkpoint_every == 0 or step == self.n_steps:
                self._save(step, evaluated["score"] if best else None)
            if stopped:
                break
        batches.close()
        done = (step - first_step) * self.settings.data.batch_images
        return {
            **values,
            "step": step,
            "n_steps": self.n_steps,
            "finished": step >= self.n_steps,
            "n_samples": self.loader.n_samples,
            "images_per_s": done / total.wall_s,
            "data_wait_share": total.waited_s / total.wall_s,
            "skipped": dict(self.loader.skipped),
            "peak_rss_gib": peak_rss_gib(),
            **{f"evaluation_{k}": v for k, v in evaluated.items()},
        }

    def _step(self, step: int, micro_batches: list[Batch]) -> dict[str, torch.Tensor]:
        """One optimiser step; returns the losses, averaged over its micro-batches."""
        settings = self.settings.optimizer
        torch.manual_seed(self.settings.run.seed * 1_000_003 + step * 1009 + rank())
        set_lr(self.optimizer, settings.lr * lr_factor(step, self.n_steps, settings))
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, torch.Tensor] = {}
        for i, batch in enumerate(micro_batches):
            with self._synchronised(i == len(micro_batches) - 1):
                losses = self._losses(batch)
                self.scaler.scale(losses["total"] / len(micro_batches)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(micro_batches)
        self.scaler.unscale_(self.optimizer)
        clip_gradients(self.model, settings)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sums

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        batch = batch.to(self.device)
        with autocast(self.device, self.settings.optimizer.precision):
            outputs = self.parallel(batch)
        return self.objective(outputs, batch)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over ranks once a step: with the last micro-batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.parallel.no_sync()

    def _log(
        self, step: int, losses: dict[str, torch.Tensor], watch: Stopwatch, monitor: Monitor | None
    ) -> dict[str, float]:
        names = list(losses)
        means = (sum_over_ranks(torch.stack([losses[n].float() for n in names])) / world_size()).tolist()
        done = min(step % self.settings.run.log_every or self.settings.run.log_every, step)
        wall_s = watch.wall_s
        values = {
            **{"loss" if n == "total" else n: v for n, v in zip(names, means, strict=True)},
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": done * self.settings.data.batch_images / wall_s,
            "data_wait_share": watch.waited_s / wall_s,
            "skipped": float(sum(self.loader.skipped.values())),
        }
        watch.restart()
        if monitor is not None:
            monitor.metrics(step, values)
        return values

    def _should_stop(self) -> bool:
        """Whether any rank was told to stop; all ranks learn it in the same step."""
        return bool(max_over_ranks(torch.tensor(float(self.hooks.stop()), device=self.device)) > 0)

    def _evaluate(self, step: int, monitor: Monitor | None) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            own = self.hooks.evaluate
            values = self._held_out_loss() if own is None else own(self.model, step)
        self.model.train()
        if monitor is not None:
            monitor.metrics(step, {f"evaluation/{k}": v for k, v in values.items()})
        return values

    def _held_out_loss(self) -> dict[str, float]:
        """The mean losses over the held-out samples, always in the same batches."""
        if self._held is None:
            self._held = make_loader(self.settings, self.loader.manifest, held=True)
        self._held.position = 0
        n_steps = max(1, self._held.n_samples // self.settings.data.batch_images)
        sums: dict[str, float] = {}
        for micro_batches in self._held.steps(n_steps):
            for batch in micro_batches:
                for name, value in self._losses(batch).items():
                    mean = float(sum_over_ranks(value.float())) / world_size()
                    sums[name] = sums.get(name, 0.0) + mean / (n_steps * len(micro_batches))
        return {"score": sums.pop("total"), **sums}

    def _save(self, step: int, best_score: float | None) -> None:
        """Rank 0 writes the checkpoint; best_score: it is the best so far."""
        if rank() != 0:
            return
        state = {
            "loader": self.loader.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(self.folder, Checkpoint(step, self.model.state_dict(), state))
        if best_score is not None:
            mark_best(self.folder, step, best_score)
        prune_checkpoints(self.folder, self.settings.run.keep_last)


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Mixed precision for the model's forward pass; the losses always compute in float32."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    with torch.autocast(device.type, dtypes.get(precision, torch.bfloat16), enabled=precision in dtypes):
        yield
