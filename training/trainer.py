"""One training of a model by an objective: one process or many, resumable at every checkpoint to the same last bit.

The data order, the views and the torch generator of a step are functions of (seed, step), so a run that is killed and
resumed repeats the undisturbed one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import storage
from training.checkpoint import (
    Best,
    Checkpoint,
    checkpoint_steps,
    load_checkpoint,
    mark_best,
    prune_checkpoints,
    read_best,
    save_checkpoint,
)
from training.data.loader import Loader
from training.data.streams import Streams
from training.distributed import rank, require_same_over_ranks, sum_over_ranks, world_size
from training.identity import differences, identity
from training.monitor import Monitor, Stopwatch, peak_rss_gib
from training.settings import TrainSettings
from training.step import LossFunction, Outcome, Step


@dataclass(frozen=True)
class Hooks:
    """What the caller adds to a run.

    evaluate: model and step -> metrics, every `run.evaluate_every` steps and at the end; the smallest `score` marks
    the best checkpoint. Without it the mean loss on the held-out samples is the score.
    stop: asked in every step; True saves a checkpoint after it and ends the run (a job sets it on SIGTERM).
    """

    evaluate: Callable[[nn.Module, int], dict[str, float]] | None = None
    stop: Callable[[], bool] = lambda: False
    progress: bool = False


def fit(
    settings: TrainSettings, streams: Streams, model: nn.Module, objective: LossFunction, hooks: Hooks
) -> dict[str, Any]:
    """Trains `model` from step 0, or the newest checkpoint in run.out, to the last step. Returns the summary.

    streams: of the dataset; opened once, also for the three stages of ReFO.
    """
    loader = streams.loader()
    monitor = None
    out = Path(settings.run.out)
    try:
        trainer = Trainer(settings, streams, model, objective, hooks, loader)
        first_step = trainer.resume()
        if rank() == 0:
            monitor = Monitor(out, first_step, trainer.n_steps, settings.run.tensorboard, hooks.progress)
            _write_json(out / "settings.json", storage.redacted_values(dataclasses.asdict(settings)))
        summary = trainer.run(first_step, monitor)
        if rank() == 0:
            _write_json(out / "summary.json", summary)
    finally:
        streams.close()
        if monitor is not None:
            monitor.close()
    return summary


class Trainer:
    """Model, optimiser, loader and objective of one training."""

    def __init__(
        self,
        settings: TrainSettings,
        streams: Streams,
        model: nn.Module,
        objective: LossFunction,
        hooks: Hooks,
        loader: Loader,
    ):
        self.settings, self.hooks, self.loader = settings, hooks, loader
        self.n_steps = settings.run.steps or streams.n_steps
        self.model = model
        self.step = Step(settings, model, objective, self.n_steps)
        self.folder = Path(settings.run.out) / "checkpoints"
        self._identity = identity(settings)
        self._best: Best | None = None
        #: The last logged metrics and the last evaluation.
        self._values: dict[str, float] = {"loss": math.nan}
        self._evaluated: dict[str, float] = {}
        own = hooks.evaluate is not None or not settings.run.evaluate_every
        self._held = None if own else streams.loader(held=True)
        require_same_over_ranks(loader.stream_hash(), "order of samples", self.step.device)

    def resume(self) -> int:
        """Loads the newest checkpoint, if there is one; returns the number of steps done.

        Raises ValueError where run.out holds a run that cannot be gone on with: of other settings, or another dataset,
        or one that not all ranks see.
        """
        steps = checkpoint_steps(self.folder)
        newest = (steps[-1] if steps else 0).to_bytes(8, "big")
        require_same_over_ranks(newest, "newest checkpoint", self.step.device)
        if not steps:
            return 0
        out = self.settings.run.out
        if self.settings.run.resume == "never":
            raise ValueError(f"run.out: {out} holds a run; run.resume auto continues it")
        checkpoint = load_checkpoint(self.folder, steps[-1])
        state = checkpoint.state
        lines = differences(state.get("settings", {}), self._identity)
        if lines:
            raise ValueError(
                f"run.out: cannot resume: {out} was begun with other settings: {'; '.join(lines)}"
            )
        self.loader.load_state_dict(state["loader"])
        self.step.load_state_dict(state, checkpoint.weights)
        self._values, self._evaluated = dict(state["values"]), dict(state["evaluated"])
        if state["best"] is not None:
            self._best = Best(*state["best"])
            if rank() == 0 and read_best(self.folder) != self._best:  # killed before it was marked
                mark_best(self.folder, self._best)
        return checkpoint.step

    def run(self, first_step: int, monitor: Monitor | None) -> dict[str, Any]:
        """Steps first_step to n_steps; returns the summary."""
        run, watch, total = self.settings.run, Stopwatch(), Stopwatch()
        step, summary = first_step, Path(run.out) / "summary.json"
        if step >= self.n_steps and summary.exists():
            return json.loads(summary.read_text(encoding="utf-8"))
        self.step.parallel.train()
        batches = total.waiting(watch.waiting(self.loader.steps(self.n_steps - first_step)))
        for micro_batches in batches:
            outcome = self.step(step, micro_batches, self.hooks.stop())
            step += 1
            last = step == self.n_steps
            if monitor is not None:
                monitor.advance()
                if run.log_keys:
                    monitor.keys(step, [k for b in micro_batches for k in b.keys])
            if step % run.log_every == 0 or last:
                self._values = self._log(step, outcome, watch, monitor)
            is_best = False
            if run.evaluate_every and (step % run.evaluate_every == 0 or last):
                is_best = self._evaluate(step, monitor)
                watch.restart()
            stopped = outcome.stop and not last
            if is_best or stopped or last or step % run.checkpoint_every == 0:
                self._save(step)
            if stopped:
                break
        batches.close()
        return self._summary(step, (step - first_step) * self.settings.data.batch_images, total)

    def _summary(self, step: int, n_images: int, total: Stopwatch) -> dict[str, Any]:
        return {
            **self._values,
            "step": step,
            "n_steps": self.n_steps,
            "finished": step >= self.n_steps,
            "n_samples": self.loader.n_samples,
            "images_per_s": n_images / total.wall_s,
            "data_wait_share": total.waited_s / total.wall_s,
            "skipped": dict(self.loader.skipped),
            "peak_rss_gib": peak_rss_gib(),
            **{f"evaluation_{k}": v for k, v in self._evaluated.items()},
        }

    def _log(
        self, step: int, outcome: Outcome, watch: Stopwatch, monitor: Monitor | None
    ) -> dict[str, float]:
        names = list(outcome.losses)
        stacked = torch.stack([outcome.losses[n].float() for n in names])
        means = (sum_over_ranks(stacked) / world_size()).tolist()
        done = min(step % self.settings.run.log_every or self.settings.run.log_every, step)
        wall_s = watch.wall_s
        values = {
            **{"loss" if n == "total" else n: v for n, v in zip(names, means, strict=True)},
            "gradient_norm": outcome.gradient_norm,
            "lr": self.step.optimizer.param_groups[0]["lr"],
            "images_per_s": done * self.settings.data.batch_images / wall_s,
            "data_wait_share": watch.waited_s / wall_s,
            "skipped": float(sum(self.loader.skipped.values())),
        }
        watch.restart()
        if monitor is not None:
            monitor.metrics(step, values)
        return values

    def _evaluate(self, step: int, monitor: Monitor | None) -> bool:
        """Measures the model. Whether it is the best so far: a score that is no number never is."""
        self.model.eval()
        with torch.no_grad():
            own = self.hooks.evaluate
            values = self._held_out_loss() if own is None else own(self.model, step)
        self.model.train()
        self._evaluated = values
        if monitor is not None:
            monitor.metrics(step, {f"evaluation/{k}": v for k, v in values.items()})
        score = values.get("score", math.nan)
        if not math.isfinite(score) or (self._best is not None and score >= self._best.score):
            return False
        self._best = Best(step, score)
        return True

    def _held_out_loss(self) -> dict[str, float]:
        """The mean losses over the held-out samples, always in the same batches."""
        assert self._held is not None
        self._held.position = 0
        n_steps = max(1, self._held.n_samples // self.settings.data.batch_images)
        sums: dict[str, float] = {}
        for micro_batches in self._held.steps(n_steps):
            for batch in micro_batches:
                for name, value in self.step.losses(batch).items():
                    mean = float(sum_over_ranks(value.float())) / world_size()
                    sums[name] = sums.get(name, 0.0) + mean / (n_steps * len(micro_batches))
        return {"score": sums.pop("total"), **sums}

    def _save(self, step: int) -> None:
        """Rank 0 writes the checkpoint, marks the best one and removes older ones."""
        if rank() != 0:
            return
        best = self._best
        state = {
            "loader": self.loader.state_dict(),
            **self.step.state_dict(),
            "settings": self._identity,
            "values": self._values,
            "evaluated": self._evaluated,
            "best": None if best is None else [best.step, best.score],
        }
        save_checkpoint(self.folder, Checkpoint(step, self.model.state_dict(), state))
        if best is not None and best.step == step:
            mark_best(self.folder, best)
        prune_checkpoints(self.folder, self.settings.run.keep_last)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    storage.write_bytes(str(path), json.dumps(values, indent=2).encode())
