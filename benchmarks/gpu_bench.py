"""What the steps of `benchmarks/gpu.py` share: the card, the pictures, teachers and annotators, and the timed steps."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.null_models import photos
from benchmarks.timing import grid, timed, unit_rows
from concept_pool.settings import PoolSettings
from pipeline import teachers
from pipeline.dataset import records
from pipeline.dataset.concepts import Vocabulary
from pipeline.images import decode
from pipeline.localizers.settings import LocalizerSettings
from pipeline.rejects import Rejects
from pipeline.run_local import BESIDE
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.stages.annotator import Annotator
from pipeline.teachers.settings import TeacherSettings


class Bench:
    """The steps; each returns JSON values."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.device = torch.device(options.device)
        self._ends = time.monotonic() + options.budget_s
        self.quick = options.quick
        self.pictures = photos(4 if options.quick else 16)
        self._flops_peak = 0.0
        self.forward_s: dict[str, float] = {}
        self.precision = options.precision if self.device.type == "cuda" else "fp32"
        self.card = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"cpu, {os.cpu_count()} cores"
        )

    @property
    def left_s(self) -> float:
        return self._ends - time.monotonic()

    def teacher(self, model: str, side: int, **change: Any) -> Any:
        values = {
            "kind": "open_clip",
            "model": model,
            "pretrained": self.options.pretrained if model == "RN50" else None,
            "device": self.options.device,
            "precision": self.precision,
            "image_size": side,
            "batch_images": self.options.batch,
        }
        return TeacherSettings(**{**values, **change})

    def peak(self) -> dict[str, float]:
        """Operations per second of a large matrix product in the type of the rows."""
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[self.precision]
        n = 8192 if self.device.type == "cuda" else 1024
        a = torch.randn(n, n, device=self.device).to(dtype)
        seconds = min(timed(lambda: a @ a, self.device) for _ in range(6))
        self._flops_peak = 2 * n**3 / seconds
        return {"tflops": round(self._flops_peak / 1e12, 3)}

    def row(self, model: str, side: int, n_boxes: int) -> dict[str, Any]:
        """The whole annotator against its encoder alone."""
        threads = max(1, (os.cpu_count() or 1) - 1)
        annotator, teacher = self.annotator(model, side, n_boxes, threads)
        forward_s, flops = self._forward(teacher, n_boxes)
        self.forward_s[row_name(model, side, n_boxes)] = forward_s
        part = self.part()
        n_parts = 3 if self.quick else max(6, min(60, int(12 / max(forward_s * len(part), 1e-3))))

        def annotate() -> None:
            with ThreadPoolExecutor(1 + BESIDE) as pool:
                assert all(pool.map(lambda _: annotator(part, Rejects("x")), range(n_parts)))

        annotator(part[: self.options.batch], Rejects("x"))
        started = time.perf_counter()
        annotate()
        whole_s = (time.perf_counter() - started) / (n_parts * len(part))
        decode_s = statistics.median(timed(partial(decode, p, 10**8)) for p in self.pictures)
        return {
            "px": side,
            "boxes": n_boxes,
            "images_per_s": round(1 / whole_s, 2),
            "forward_images_per_s": round(1 / forward_s, 2),
            "of_forward": round(forward_s / whole_s, 3),
            "of_peak": round(flops / forward_s / self._flops_peak, 3),
            "decode_threads": threads,
            "decode_threads_needed": round(decode_s / forward_s, 2),
        }

    def annotator(self, model: str, side: int, n_boxes: int, threads: int) -> tuple[Annotator, Any]:
        """An annotator and the teacher in it."""
        settings = BuildSettings(
            source=SourceSettings(kind="shapes"),
            pool=PoolSettings(min_count=1),
            localizer=LocalizerSettings(kind="grid", max_proposals=n_boxes),
            teacher=self.teacher(model, side),
        )
        teacher = teachers.load(settings.teacher)
        vocabulary = Vocabulary([f"thing {i}" for i in range(1000)], unit_rows(1000, teacher.dim), "0" * 16)
        return Annotator(settings, vocabulary, "0" * 16, decode_threads=threads, teacher=teacher), teacher

    def part(self) -> list[dict[str, Any]]:
        """Four micro-batches of samples."""
        return self._samples(self.options.batch * (1 if self.quick else 4))

    def _samples(self, n: int) -> list[dict[str, Any]]:
        """Rows of `records.SAMPLES`."""
        same = {"source": "", "captions": ["a red ball"], "extra": "", "mentioned": [0], "spans": []}
        rows = [
            {
                **same,
                "key": f"{i:024x}",
                "source_key": str(i),
                "image": self.pictures[i % len(self.pictures)],
            }
            for i in range(n)
        ]
        return pa.Table.from_pylist(rows, records.SAMPLES).to_pylist()

    def _forward(self, teacher: Any, n_boxes: int) -> tuple[float, float]:
        """Seconds and operations per image of the bare encoder, its input on the device."""
        tower = teacher._regions  # the bare encoder has no other door
        picture = decode(self.pictures[0], 10**8)[0]
        height, width = tower.preprocess.size_of(*picture.shape[:2])
        batch = torch.zeros(self.options.batch, 3, height, width, device=self.device)
        batch = batch.contiguous(memory_format=tower.hardware.layout)
        boxes = [torch.as_tensor(grid(n_boxes), device=self.device)] * len(batch)

        @torch.inference_mode()
        def forward() -> None:
            with tower.hardware.autocast():
                tower.encoder(batch, boxes)

        with FlopCounterMode(display=False) as counter:
            forward()
        seconds = self._seconds(forward, 1 if self.quick else 8)
        return seconds / len(batch), counter.get_total_flops() / len(batch)

    def roi_over_crop(self) -> float:
        model, side, n = ("RN50", 64, 4) if self.quick else ("RN50", 800, 100)
        images = [decode(p, 10**8)[0] for p in self.pictures[: 1 if self.quick else 8]]
        boxes = [grid(n)] * len(images)
        seconds = []
        for features, size in (("roi", side), ("crop", 0)):
            teacher = teachers.load(self.teacher(model, size, features=features))
            seconds.append(
                self._seconds(partial(teacher.encode_regions, images, boxes), 1 if self.quick else 3)
            )
        return round(seconds[1] / seconds[0], 2)

    def train_step(self) -> Any:
        """The other benchmark's last line; a word of why where it cannot run here."""
        command = [sys.executable, "-m", "benchmarks.train_step", "--quick", "--device", self.options.device]
        root = Path(__file__).resolve().parents[1]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=environment,
                cwd=root,
                timeout=None if self.left_s == math.inf else self.left_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no time was left"
        lines = done.stdout.splitlines()
        return json.loads(lines[-1]) if done.returncode == 0 and lines else done.stderr.strip()[-300:]

    def _seconds(self, work: Callable[[], Any], times: int) -> float:
        """Median seconds of a call, after one that warms up; the device has finished before the clock stops."""
        work()
        return statistics.median(timed(work, self.device) for _ in range(times))


def row_name(model: str, side: int, n_boxes: int) -> str:
    return f"{model} {side} px {n_boxes} boxes"
