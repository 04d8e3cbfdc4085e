"""Train a class-agnostic localizer on COCO-style boxes, on synthetic scenes, or on both.

python jobs/train_localizer.py --config localizer_rpn_lite --data.images IMAGES --data.instances JSON
python jobs/train_localizer.py --kind dn-detr --data.scenes 3000 --out runs/dn_detr
The result is OUT/weights.safetensors, for --localizer.checkpoint.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: python jobs/train_localizer.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jobs.arguments import parse
from training.localizers.settings import LocalizerTrainingSettings, validate
from training.localizers.train import CHECKPOINT, Worker, train
from training.monitor import Monitor


def resolve_device(device: str) -> str:
    """`auto` is cuda where there is one."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def train_with_monitor(settings: LocalizerTrainingSettings, worker: Worker, first_step: int) -> Path:
    """Trains with a progress bar, metrics.jsonl and TensorBoard files in the run's folder (worker 0)."""
    if worker.index != 0:
        return train(settings, worker, lambda step, numbers: None)
    out = Path(settings.out)
    monitor = Monitor(out, first_step, settings.steps, tensorboard=True, progress=sys.stderr.isatty())

    def report(step: int, numbers: dict[str, float]) -> None:
        monitor.advance()
        if step % 10 == 0 or step == settings.steps or any("/" in name for name in numbers):
            monitor.metrics(step, numbers)

    try:
        return train(settings, worker, report)
    finally:
        monitor.close()


def finished_steps(settings: LocalizerTrainingSettings) -> int:
    """The step of the run's checkpoint, 0 where there is none or `resume` is off."""
    import torch

    path = Path(settings.out) / CHECKPOINT
    if not settings.resume or not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"])


def train_on_ray(settings: LocalizerTrainingSettings) -> None:
    """Trains on `settings.workers` Ray Train workers (DDP). The run's folder must be one that all of them see."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"settings": settings, "first_step": finished_steps(settings)},
        scaling_config=ScalingConfig(
            num_workers=settings.workers, use_gpu=settings.device.startswith("cuda")
        ),
        run_config=RunConfig(
            name="localizer",
            storage_path=str(Path(settings.out).resolve() / "ray"),
            failure_config=FailureConfig(max_failures=2),
        ),
    )
    trainer.fit()


def _ray_worker(config: dict[str, Any]) -> None:
    import ray.train
    from ray.train.torch import get_device, prepare_model

    settings: LocalizerTrainingSettings = config["settings"]
    context = ray.train.get_context()

    def wrap(module: Any) -> Any:
        return prepare_model(module, move_to_device=False)

    worker = Worker(context.get_world_rank(), context.get_world_size(), str(get_device()), wrap)
    train_with_monitor(settings, worker, finished_steps(settings))
    ray.train.report({"steps": settings.steps})


def main(argv: list[str] | None = None) -> int:
    settings = parse(LocalizerTrainingSettings, argv, description=__doc__ or "", validate=validate)
    settings = replace(
        settings,
        out=str(Path(os.path.expanduser(settings.out)).resolve()),
        device=resolve_device(settings.device),
    )
    Path(settings.out).mkdir(parents=True, exist_ok=True)
    if settings.workers:
        train_on_ray(settings)
    else:
        train_with_monitor(settings, Worker(device=settings.device), finished_steps(settings))
    print(
        f"{settings.out}/weights.safetensors: use it with --localizer.kind {settings.kind} --localizer.checkpoint"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
