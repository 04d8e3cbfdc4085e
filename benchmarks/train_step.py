"""A training step with stored targets against RegionCLIP's way, which makes them anew in every step.

Same student (RN50, stem and layer1 and every BatchNorm frozen), same images and boxes, same losses, in turns,
one after the other; the medians count. Online, a step also runs a class-agnostic RPN (torchvision's Faster
R-CNN R50-FPN, 1000 / 300 proposals), the teacher (RN50) on the same regions, the dense teacher distribution
over all concepts and CLIP's text encoder on one caption an image. `cached_over_online` gives the student all
regions either way, as RegionCLIP does. `quarter_kept` is stored targets where a quarter of the regions is
kept: the labels are known before the step, so the student is spared the others (view.drop_unkept), with the
same losses. Weights are random: they do not change the work. Each way runs in a process of its own for its
peak memory; a third process takes the turns.

`data_wait_share` comes from a real training run with stored targets from shards of photographs.
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

import open_clip
import torch
import torchvision
from torchvision.models.detection.image_list import ImageList

from benchmarks.photo_dataset import write_dataset
from pipeline.teachers.region_encoder import region_encoder
from pipeline.teachers.settings import TeacherSettings
from training import losses
from training.batch import Batch, normalised
from training.loader import Loader
from training.loop import device_of, train
from training.manifest import read_concepts, read_manifest
from training.monitor import peak_rss_gib
from training.objective import Objective
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
from training.student import build

FROZEN = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "layer1"]
TAU = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small images, few regions: under 50 s on 2 cores"
    )
    parser.add_argument("--side", type=int, help="short side in pixels (default: 800, quick: 128)")
    parser.add_argument("--images", type=int, help="images a step (default: 2, quick: 2)")
    parser.add_argument("--regions", type=int, help="regions an image (default: 100, quick: 12)")
    parser.add_argument("--rounds", type=int, help="steps of each way (default: 5, quick: 2)")
    parser.add_argument("--device", default="auto", help="cpu | cuda | auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--only", choices=["cached", "online"], help=argparse.SUPPRESS)
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    side, images, regions, rounds = (128, 2, 12, 2) if arguments.quick else (800, 2, 100, 5)
    arguments.side = arguments.side or side
    arguments.images = arguments.images or images
    arguments.regions = arguments.regions or regions
    arguments.rounds = arguments.rounds or rounds
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        steps = Steps(arguments, Path(arguments.dataset), [arguments.only])
        for _ in range(2):
            getattr(steps, arguments.only)()
        print(json.dumps({"peak_gib": steps.peak_gib()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder) / "d", 64, per_shard=16, regions=arguments.regions)
        compared = compare(arguments, dataset)
        memory = {way: peak_memory(arguments, dataset, way) for way in ("cached", "online")}
        waited = data_wait(arguments, dataset, Path(folder) / "run")
    details = {**compared, "peak_gib": memory, **waited}
    print(json.dumps({k: getattr(arguments, k) for k in ("side", "images", "regions", "rounds", "threads")}))
    print(json.dumps(details, indent=2))
    print(
        json.dumps(
            {
                "cached_over_online": details["cached_over_online"],
                "cached_over_online_cpu_time": details["cached_over_online_cpu_time"],
                "cached_over_online_quarter_kept": details["cached_over_online_quarter_kept"],
                "data_wait_share": details["data_wait_share"],
                "online_over_cached_memory": round(memory["online"] / memory["cached"], 3),
                "device": str(details["device"]),
            }
        )
    )


def settings_of(arguments: argparse.Namespace, dataset: Path) -> TrainSettings:
    return TrainSettings(
        data=DataSettings(str(dataset), batch_images=arguments.images, workers=0),
        view=ViewSettings(
            arguments.side, arguments.side * 5 // 3, max_regions=arguments.regions, drop_unkept=False
        ),
        student=StudentSettings(TeacherSettings(kind="open_clip", model="RN50"), freeze=FROZEN),
        loss=LossSettings(tau=TAU),
        optimizer=OptimizerSettings(kind="sgd", lr=1e-5, clip=5.0, clip_by="tensor"),
        run=RunSettings(device=arguments.device, threads=arguments.threads),
    )


class Steps:
    """One optimiser step, either way, on one batch."""

    def __init__(self, arguments: argparse.Namespace, dataset: Path, ways: list[str]):
        self.settings = settings_of(arguments, dataset)
        self.device = device_of(self.settings)
        self.student = build(self.settings.student).to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = build_optimizer(self.student, self.settings.optimizer)
        self.concepts = read_concepts(str(dataset)).to(self.device)
        self.objective = Objective(self.concepts, TAU, self.settings.loss)
        loader = Loader(
            read_manifest(str(dataset)),
            self.settings.data,
            self.settings.view,
            folder=str(dataset / "buffer"),
        )
        ((batch,),) = list(loader.steps(1))
        self.batch: Batch = batch.to(self.device)
        self.quarter = quarter_of(self.batch)
        if "online" in ways:
            self._load_online()

    def _load_online(self) -> None:
        clip = open_clip.create_model("RN50").eval().requires_grad_(False)
        self.teacher = region_encoder(clip.visual).to(self.device, memory_format=torch.channels_last)
        self.text = clip.to(self.device)
        self.tokens = open_clip.get_tokenizer("RN50")(
            ["a person and a dog on a street"] * len(self.batch.keys)
        )
        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        detector.rpn._pre_nms_top_n = {"training": 1000, "testing": 1000}
        detector.rpn._post_nms_top_n = {"training": 300, "testing": 300}
        self.detector = detector.eval().requires_grad_(False).to(self.device)

    def cached(self, batch: Batch | None = None) -> None:
        """Targets as they were stored."""
        batch = batch or self.batch
        self._update(self.objective(self.student(batch), batch)["total"])

    def online(self) -> None:
        """Proposals, teacher and text encoder in the step, and the dense KL that they make possible."""
        b = self.batch
        with torch.no_grad():
            images = normalised(b.images, b.sizes, self.student.mean, self.student.std)
            self.detector.rpn(
                ImageList(images, [tuple(s) for s in b.sizes.tolist()]), self.detector.backbone(images)
            )
            taught = self.teacher(images, b.boxes_per_image(), b.sizes)
            q = losses.concept_logits(taught, self.concepts, TAU).softmax(dim=1)
            captions = self.text.encode_text(self.tokens.to(self.device)).float()
        regions, whole = self.student(b)
        kept = torch.ones_like(
            b.kept
        )  # random weights keep nothing in earnest; the work is that of all regions
        logits = losses.concept_logits(regions[kept], self.concepts, TAU)
        labels = q.argmax(dim=1)[kept]
        counts = torch.bincount(labels, minlength=len(self.concepts)).float()
        total = losses.region_contrastive(logits, labels, counts).mean()
        total = total + losses.dense_distillation(logits, q[kept]).mean()
        self._update(total + losses.image_text(whole, captions, TAU))

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


def quarter_of(batch: Batch) -> Batch:
    """The batch with every fourth region: what view.drop_unkept leaves where a quarter of the regions is kept."""
    some = slice(None, None, 4)
    names = ("boxes", "image_index", "topk_ids", "topk_probs", "residual", "kept", "embeddings")
    return replace(batch, **{name: getattr(batch, name)[some] for name in names})


def compare(arguments: argparse.Namespace, dataset: Path) -> dict[str, object]:
    """Median seconds of a step of each way, in turns."""
    steps = Steps(arguments, dataset, ["cached", "online"])
    ways: dict[str, Callable[[], None]] = {
        "cached": steps.cached,
        "online": steps.online,
        "cached_quarter_kept": lambda: steps.cached(steps.quarter),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        step()
    for _ in range(arguments.rounds):
        for name, step in ways.items():
            begun, used = time.perf_counter(), time.process_time()
            step()
            wall[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - used)
    wall_s, cpu_s = ({name: statistics.median(s) for name, s in table.items()} for table in (wall, cpu))
    return {
        "step_wall_s": {k: round(v, 4) for k, v in wall_s.items()},
        "step_cpu_s": {k: round(v, 4) for k, v in cpu_s.items()},
        "images_per_s": {k: round(arguments.images / v, 3) for k, v in wall_s.items()},
        "cached_over_online": round(wall_s["online"] / wall_s["cached"], 3),
        "cached_over_online_cpu_time": round(cpu_s["online"] / cpu_s["cached"], 3),
        "cached_over_online_quarter_kept": round(wall_s["online"] / wall_s["cached_quarter_kept"], 3),
        "cached_over_online_quarter_kept_cpu_time": round(cpu_s["online"] / cpu_s["cached_quarter_kept"], 3),
        "device": str(steps.device),
    }


def peak_memory(arguments: argparse.Namespace, dataset: Path, way: str) -> float:
    """Peak memory of a process that only trains this way."""
    command = [sys.executable, __file__, "--only", way, "--dataset", str(dataset)]
    for key in ("side", "images", "regions", "device", "threads"):
        command += [f"--{key}", str(getattr(arguments, key))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_gib"])


def data_wait(arguments: argparse.Namespace, dataset: Path, out: Path) -> dict[str, float]:
    """The share of a real run's time that it waited for its loader (two processes)."""
    settings = settings_of(arguments, dataset)
    run = replace(settings.run, out=str(out), steps=2 * arguments.rounds, tensorboard=False)
    data = replace(settings.data, workers=2)
    summary = train(replace(settings, run=run, data=data))
    return {
        "data_wait_share": round(summary["data_wait_share"], 4),
        "run_images_per_s": round(summary["images_per_s"], 3),
    }


if __name__ == "__main__":
    main()
