"""A training step with stored targets against RegionCLIP's way, which makes them anew in every step.

Same student (RN50; stem, layer1 and every BatchNorm frozen), same images and boxes, same losses, in turns, one after
the other; the medians count.

- `cached_over_online` is the headline: online in RegionCLIP's way (benchmarks/online_targets.py: RPN, plain teacher,
  text encoder), and the student gets all drawn regions either way.
- `cached_over_online_28_percent_kept`: 28 % of the regions (rounded down) are kept, as with the photo teacher at
  threshold 0.7. Stored labels are known before the step, so the student is spared the others (view.drop_unkept), with
  the same losses; RegionCLIP's student embeds all regions and then drops most, which is the same work as keeping all.
- `cached_over_fast_online`: all regions kept, and online our teacher in the place of the plain one.

`data_wait_share` comes from a real training run with stored targets from shards of photographs, two loader processes.
With --memory each way also runs in a process of its own, for its peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.online_targets import Online
from benchmarks.photo_dataset import write_dataset
from pipeline.dataset import Dataset
from pipeline.teachers.settings import TeacherSettings
from training.data.batch import Batch, normalised
from training.data.streams import Streams
from training.devices import device_of
from training.losses import terms
from training.losses.objective import Objective
from training.monitor import peak_rss_gib
from training.optimizer import build_optimizer, clip_gradients
from training.settings import (
    DataSettings,
    LossSettings,
    OptimizerSettings,
    RunSettings,
    StudentSettings,
    TrainSettings,
    ViewSettings,
)
from training.student import build, memory_format
from training.trainer import Hooks, fit

FROZEN = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "layer1"]
TAU = 0.01
#: RegionCLIP's pool of COCO Captions.
CONCEPTS = 4764
KEEP_RATE = 0.28


def main() -> None:
    arguments = arguments_of_this()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        steps = Steps(arguments, Path(arguments.dataset), arguments.only == "online")
        for _ in range(2):
            steps.ways[arguments.only]()
        print(json.dumps({"peak_gib": steps.peak_gib()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(
            Path(folder) / "d", arguments.photographs, 16, arguments.regions, concepts=CONCEPTS
        )
        steps = Steps(arguments, dataset, online=True)
        details = compare(arguments, steps)
        if arguments.memory:
            memory = {way: peak_memory(arguments, dataset, way) for way in ("cached", "online")}
            details["peak_gib"] = memory
            details["online_over_cached_memory"] = round(memory["online"] / memory["cached"], 3)
        if arguments.run_steps:
            details |= data_wait(steps, arguments.run_steps, Path(folder) / "run")
    print(json.dumps({k: getattr(arguments, k) for k in ("side", "images", "regions", "rounds", "threads")}))
    print(json.dumps(details, indent=2))
    print(json.dumps({k: v for k, v in details.items() if not isinstance(v, dict)}))


def arguments_of_this() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small images, few regions: under 50 s on 2 cores"
    )
    parser.add_argument("--side", type=int, help="short side in pixels (default: 800, quick: 160)")
    parser.add_argument("--images", type=int, help="images a step (default: 2, quick: 2)")
    parser.add_argument("--regions", type=int, help="regions an image (default: 100, quick: 4)")
    parser.add_argument("--rounds", type=int, help="steps of each way (default: 5, quick: 2)")
    parser.add_argument(
        "--run-steps", type=int, help="steps of the run for data_wait_share (default: 4; 0: none)"
    )
    parser.add_argument(
        "--memory", action="store_true", help="also the peak memory of either way, alone in a process"
    )
    parser.add_argument("--device", default="auto", help="cpu | cuda | auto")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--only", choices=["cached", "online"], help=argparse.SUPPRESS)
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # A quick step has about as many pixels a region as the real one.
    side, images, regions, rounds = (160, 2, 4, 2) if arguments.quick else (800, 2, 100, 5)
    arguments.side = arguments.side or side
    arguments.images = arguments.images or images
    arguments.regions = arguments.regions or regions
    arguments.rounds = arguments.rounds or rounds
    arguments.run_steps = 4 if arguments.run_steps is None else arguments.run_steps
    arguments.photographs = 16 if arguments.quick else 64
    return arguments


def settings_of(arguments: argparse.Namespace, dataset: Path) -> TrainSettings:
    return TrainSettings(
        data=DataSettings(str(dataset), batch_images=arguments.images, workers=0),
        view=ViewSettings(
            arguments.side, arguments.side * 5 // 3, max_regions=arguments.regions, drop_unkept=False
        ),
        student=StudentSettings(TeacherSettings(kind="open_clip", model="RN50"), freeze=FROZEN),
        loss=LossSettings(tau=TAU),
        optimizer=OptimizerSettings(kind="sgd", lr=1e-5, clip=5.0, clip_by="tensor"),
        run=RunSettings(out=str(dataset / "run"), device=arguments.device, threads=arguments.threads),
    )


class Steps:
    """One optimiser step on one batch, each way."""

    def __init__(self, arguments: argparse.Namespace, dataset: Path, online: bool):
        self.settings = settings_of(arguments, dataset)
        self.device = device_of(self.settings)
        student = build(self.settings.student).train()
        self.student = student.to(self.device, memory_format=memory_format(self.device))
        self.optimizer = build_optimizer(self.student, self.settings.optimizer)
        self.dataset = Dataset.open(str(dataset))
        self.concepts = self.dataset.concepts().to(self.device)
        self.objective = Objective(self.concepts, TAU, self.settings.loss)
        streams = Streams(self.settings, self.dataset)
        ((loaded,),) = list(streams.loader().steps(1))
        streams.close()
        batch = loaded.to(self.device)
        batch = replace(batch, kept=torch.ones_like(batch.kept))
        some = only_kept(replace(batch, kept=kept_mask(batch)))
        self.ways: dict[str, Callable[[], None]] = {"cached": lambda: self.cached(batch)}
        self.ways["cached_some_kept"] = lambda: self.cached(some)
        if online:
            regionclip = Online(self.concepts, TAU, self.device)
            ours = regionclip.with_our_teacher()
            self.ways["online"] = lambda: self.online(batch, regionclip)
            self.ways["fast_online"] = lambda: self.online(batch, ours)

    def cached(self, batch: Batch) -> None:
        """Targets as they were stored."""
        self._update(self.objective(self.student(batch), batch)["total"])

    def online(self, batch: Batch, make: Online) -> None:
        """Proposals, teacher and text encoder in the step, and the dense KL that they make possible."""
        images = normalised(batch.images(), batch.sizes, self.student.mean, self.student.std)
        targets = make(images, batch)
        regions, whole = self.student(batch)
        logits = terms.concept_logits(regions, self.concepts, TAU)
        labels = targets.q.argmax(dim=1)
        counts = torch.bincount(labels, minlength=len(self.concepts)).float()
        total = terms.region_contrastive(logits, labels, counts).mean()
        total = total + terms.dense_distillation(logits, targets.q).mean()
        self._update(total + terms.image_text(whole, targets.captions, TAU))

    def _update(self, total: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        clip_gradients(self.student, self.settings.optimizer)
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_gib(self) -> float:
        """The most memory so far: of the GPU where there is one, else of the process."""
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated() / 2**30, 3)
        return round(peak_rss_gib(), 3)


def kept_mask(batch: Batch) -> torch.Tensor:
    """bool [R]: KEEP_RATE of the regions, evenly spread. Random weights keep nothing in earnest."""
    ranks = torch.arange(len(batch.kept), device=batch.kept.device)
    return ((ranks + 1) * KEEP_RATE).floor() > (ranks * KEEP_RATE).floor()


def only_kept(batch: Batch) -> Batch:
    """What view.drop_unkept leaves of a batch."""
    names = ("boxes", "image_index", "topk_ids", "topk_probs", "residual", "kept", "embeddings")
    return replace(batch, **{name: getattr(batch, name)[batch.kept] for name in names})


def compare(arguments: argparse.Namespace, steps: Steps) -> dict[str, object]:
    """Median seconds of a step of each way, in turns."""
    wall: dict[str, list[float]] = {name: [] for name in steps.ways}
    cpu: dict[str, list[float]] = {name: [] for name in steps.ways}
    for step in steps.ways.values():
        step()
    for _ in range(arguments.rounds):
        for name, step in steps.ways.items():
            begun, used = time.perf_counter(), time.process_time()
            step()
            wall[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - used)
    wall_s, cpu_s = ({name: statistics.median(s) for name, s in table.items()} for table in (wall, cpu))
    kept = f"{KEEP_RATE:.0%}".replace("%", "_percent_kept")
    return {
        "step_wall_s": {k: round(v, 4) for k, v in wall_s.items()},
        "step_cpu_s": {k: round(v, 4) for k, v in cpu_s.items()},
        "images_per_s": {k: round(arguments.images / v, 3) for k, v in wall_s.items()},
        "cached_over_online": round(wall_s["online"] / wall_s["cached"], 3),
        "cached_over_online_cpu_time": round(cpu_s["online"] / cpu_s["cached"], 3),
        f"cached_over_online_{kept}": round(wall_s["online"] / wall_s["cached_some_kept"], 3),
        "cached_over_fast_online": round(wall_s["fast_online"] / wall_s["cached"], 3),
        "device": str(steps.device),
    }


def peak_memory(arguments: argparse.Namespace, dataset: Path, way: str) -> float:
    """Peak memory of a process that only trains this way."""
    command = [sys.executable, "-m", "benchmarks.train_step", "--only", way, "--dataset", str(dataset)]
    for key in ("side", "images", "regions", "device", "threads"):
        command += [f"--{key}", str(getattr(arguments, key))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_gib"])


def data_wait(steps: Steps, n_steps: int, out: Path) -> dict[str, float]:
    """The share of a real run's time that it waited for its loader (two processes)."""
    settings = steps.settings
    run = replace(settings.run, out=str(out), steps=n_steps, tensorboard=False)
    settings = replace(settings, run=run, data=replace(settings.data, workers=2))
    streams = Streams(settings, steps.dataset)
    summary = fit(settings, streams, steps.student, steps.objective, Hooks())
    return {
        "data_wait_share": round(summary["data_wait_share"], 4),
        "run_images_per_s": round(summary["images_per_s"], 3),
    }


if __name__ == "__main__":
    main()
