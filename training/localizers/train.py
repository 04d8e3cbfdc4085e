"""One worker's run from settings to weights file: sources, steps, measurements, checkpoints. Start here."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import storage
from pipeline.localizers.network import NetworkLocalizer, Proposer
from training.distributed import require_same_over_ranks
from training.localizers.average_recall import average_recall, propose_all
from training.localizers.batches import Mixture
from training.localizers.examples import BoxSource, CocoBoxes, InMemory, SceneBoxes
from training.localizers.settings import BoxDataSettings, LocalizerTrainingSettings, check_sources
from training.localizers.tasks import RpnLiteTask, Task
from training.localizers.trainer import Trainer
from training.monitor import Monitor

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Worker:
    """Which of how many workers this is; several share a process group (DDP)."""

    index: int = 0
    count: int = 1
    device: str = "cpu"

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over all workers."""
        return DistributedDataParallel(module, broadcast_buffers=False) if self.count > 1 else module


#: Called with (step, named numbers).
Report = Callable[[int, dict[str, float]], None]


def training_sources(data: BoxDataSettings) -> tuple[list[BoxSource], list[float]]:
    """The sources to learn from and their weights."""
    sources: list[BoxSource] = []
    weights: list[float] = []
    if data.images is not None and data.instances is not None:
        sources.append(InMemory(CocoBoxes(data.images, data.instances, data.held_out, "train")))
        weights.append(data.photos_weight)
    if data.scenes:
        sources.append(SceneBoxes(data.scenes_seed, data.scenes, data.scenes_size))
        weights.append(data.scenes_weight)
    return sources, weights


def held_out_sources(data: BoxDataSettings) -> dict[str, BoxSource]:
    """The sources to measure on, by name; synthetic scenes may hold kinds that training never drew."""
    out: dict[str, BoxSource] = {}
    if data.images is not None and data.instances is not None and data.held_out:
        out["photos"] = InMemory(CocoBoxes(data.images, data.instances, data.held_out, "held-out"))
    if data.scenes and data.scenes_held_out:
        from world.scenes import KINDS

        scenes = SceneBoxes(data.scenes_seed + 1, data.scenes_held_out, data.scenes_size, KINDS)
        out["scenes"] = InMemory(scenes)
    return out


def measure(
    network: nn.Module, sources: dict[str, BoxSource], device: str, nms_iou: float | None = 0.7
) -> dict[str, float]:
    """`SOURCE/ar10`, `/ar100`, `/ar300` of a network, eval mode, on each source."""
    network = copy.deepcopy(network).eval()
    proposer: Proposer = network  # type: ignore[assignment]
    localizer = NetworkLocalizer(proposer, device, pre_nms_top_n=1000, nms_iou=nms_iou, max_proposals=300)
    out: dict[str, float] = {}
    for name, source in sources.items():
        examples = [source[i] for i in range(len(source))]
        found = average_recall(examples, propose_all(localizer, source))
        out |= {f"{name}/{key}": value for key, value in found.items() if math.isfinite(value)}
    return out


def train(settings: LocalizerTrainingSettings, worker: Worker, report: Report) -> Path:
    """Trains to the end and returns the weights file; goes on from the folder's checkpoint where `resume` says so.

    Worker 0 measures, reports and writes; the others only train.
    """
    check_sources(settings.data)
    out = Path(storage.local_folder(settings.out, "out"))
    out.mkdir(parents=True, exist_ok=True)
    if worker.index != 0:
        return _train(settings, worker, report, out)
    with storage.Claim.acquire(str(out), {"program": "regionpairs localizer training"}):
        return _train(settings, worker, report, out)


def _train(settings: LocalizerTrainingSettings, worker: Worker, report: Report, out: Path) -> Path:
    torch.set_num_threads(settings.threads)
    task = _task(settings)
    task.network.to(worker.device)
    mixture = Mixture(*training_sources(settings.data), seed=settings.seed, views=settings.views)
    trainer = Trainer(task, mixture, settings, worker=worker.index, workers=worker.count, wrap=worker.wrap)
    if settings.resume and (out / CHECKPOINT).exists():
        trainer.restore(out / CHECKPOINT)
    require_same_over_ranks(trainer.step.to_bytes(8, "big"), "checkpoint", torch.device(worker.device))
    held_out = held_out_sources(settings.data) if worker.index == 0 else {}
    nms_iou = 0.7 if settings.kind == "rpn-lite" else None
    for progress in trainer.run():
        if worker.index != 0:
            continue
        step, last = progress.step, progress.step == settings.steps
        numbers = {
            **progress.losses,
            "loss": sum(progress.losses.values()),
            "gradient_norm": progress.gradient_norm,
        }
        if last or (settings.evaluate_every and step % settings.evaluate_every == 0):
            numbers |= measure(trainer.averaged, held_out, worker.device, nms_iou)
        report(step, numbers)
        if last or step % settings.checkpoint_every == 0:
            trainer.save(out / CHECKPOINT)
            storage.write_bytes(str(out / WEIGHTS), task.weights(trainer.averaged))
    return out / WEIGHTS


def train_watched(settings: LocalizerTrainingSettings, worker: Worker, progress: bool = False) -> Path:
    """`train` with metrics.jsonl and TensorBoard files in the run's folder (worker 0), and a progress bar."""
    if worker.index != 0:
        return train(settings, worker, lambda step, numbers: None)
    out = Path(storage.local_folder(settings.out, "out"))
    first_step = finished_steps(out) if settings.resume else 0
    monitor = Monitor(out, first_step, settings.steps, tensorboard=True, progress=progress)

    def report(step: int, numbers: dict[str, float]) -> None:
        monitor.advance()
        if step % 10 == 0 or step == settings.steps or any("/" in name for name in numbers):
            monitor.metrics(step, numbers)

    try:
        return train(settings, worker, report)
    finally:
        monitor.close()


def finished_steps(out: Path) -> int:
    """The step of a run's checkpoint, 0 where there is none."""
    path = out / CHECKPOINT
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"]) if path.exists() else 0


def _task(settings: LocalizerTrainingSettings) -> Task:
    """The task of `settings.kind`, with weights drawn from `settings.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if settings.kind == "rpn-lite":
            return RpnLiteTask(settings)
        from training.localizers.set_task import SetTask  # needs the extra `detr`

        return SetTask(settings)
