"""Everything that only a GPU can tell, in one command of at most 8 minutes.

    python benchmarks/gpu.py                       # on a GPU
    python benchmarks/gpu.py --device cpu --quick  # the same way through the program, tiny models, no meaning as figures

Prints a JSON line per step and, last, one with everything. Correctness comes first: if it fails, no figure is printed.

- `correct`: the tower on the device against the same tower on the CPU (fp32; cosine of every region, worst), and an
  image alone against the same image in a batch.
- a row per model, image size and number of boxes: `images_per_s` of the whole annotator (JPEG bytes in, packed samples
  out, two parts at a time as the runners send them); `of_forward`: that over the images/s of the bare encoder on tensors
  that lie on the device (goal 0.9); `of_peak`: the encoder's operations per second over those of a large matrix product
  of the same type on this card; `decode_threads_needed`: CPU seconds of decoding an image times the encoder's images/s.
- `roi_over_crop`: images/s of one pass per image over one pass per region, 100 boxes (goal 4).
- `agreement`: share of regions whose label among 200 concepts is that of fp32, for fp16 and bf16. Weights are random
  unless --pretrained names some, so near-ties are everywhere; benchmarks/precision.py asks the shipped teacher.
- `train_step`: benchmarks/train_step.py on this device.

What does not fit into --budget-s seconds is left out and named in `left_out`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.null_models import photos
from concept_pool.settings import PoolSettings
from pipeline import teachers
from pipeline.dataset.concepts import Vocabulary
from pipeline.images import decode
from pipeline.localizers.settings import LocalizerSettings
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.stages.annotator import Annotator
from pipeline.teachers.settings import TeacherSettings

#: (model, short side in pixels, boxes).
CASES = [
    ("RN50", 800, 100), ("RN50", 800, 300), ("ViT-B-16", 224, 100), ("ViT-L-14", 224, 100), ("ViT-L-14", 336, 100),
]  # fmt: skip
QUICK = [("RN50", 96, 10), ("ViT-B-32", 64, 10)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    parser.add_argument("--precision", default="fp16", help="of the rows of models (default: %(default)s)")
    parser.add_argument("--pretrained", help="open_clip tag or checkpoint of RN50 (default: random weights)")
    parser.add_argument("--batch", type=int, default=16, help="teacher.batch_images (default: %(default)s)")
    parser.add_argument("--budget-s", type=float, default=460.0)
    options = parser.parse_args()
    bench = Bench(options)
    steps: list[tuple[str, Callable[[], Any]]] = [("correct", bench.correct), ("peak", bench.peak)]
    for case in QUICK if options.quick else CASES:
        steps.append((f"{case[0]} {case[1]} px {case[2]} boxes", lambda case=case: bench.row(*case)))
    steps += [
        ("roi_over_crop", bench.roi_over_crop),
        ("agreement", bench.agreement),
        ("train_step", bench.train_step),
    ]
    result: dict[str, Any] = {"card": bench.card, "precision": options.precision, "left_out": []}
    for name, step in steps:
        if bench.left_s < 30:
            result["left_out"].append(name)
            continue
        started = time.perf_counter()
        result[name] = step()
        print(json.dumps({name: result[name], "s": round(time.perf_counter() - started, 1)}), flush=True)
    print(json.dumps(result))


class Bench:
    """The steps; each returns JSON values."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.device = torch.device(options.device)
        self._ends = time.monotonic() + options.budget_s
        self._quick = options.quick
        self._pictures = photos(4 if options.quick else 16)
        self._flops_peak = 0.0
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
            "precision": self.options.precision if self.device.type == "cuda" else "fp32",
            "image_size": side,
            "batch_images": self.options.batch,
        }
        return TeacherSettings(**{**values, **change})

    def correct(self) -> dict[str, float]:
        """Raises AssertionError if the device's embeddings are not the CPU's."""
        model, side = ("ViT-B-32", 64) if self._quick else ("RN50", 224)
        images = [decode(p, 10**8)[0] for p in self._pictures[:4]]
        boxes = [grid(12)] * len(images)
        there = teachers.load(self.teacher(model, side, precision="fp32", batch_images=4))
        here = teachers.load(self.teacher(model, side, precision="fp32", batch_images=4, device="cpu"))
        on_device, on_cpu = there.encode_regions(images, boxes), here.encode_regions(images, boxes)
        cosine = min(
            torch.cosine_similarity(a, b).min().item() for a, b in zip(on_device, on_cpu, strict=True)
        )
        alone = there.encode_regions(images[:1], boxes[:1])[0]
        batch = torch.cosine_similarity(alone, on_device[0]).min().item()
        assert min(cosine, batch) > 0.999, (cosine, batch)
        return {"worst_cosine_to_cpu": round(cosine, 6), "worst_cosine_alone_to_batch": round(batch, 6)}

    def peak(self) -> dict[str, float]:
        """Operations per second of a large matrix product in the type of the rows."""
        dtype = torch.float16 if self.device.type == "cuda" and self.options.precision == "fp16" else None
        dtype = torch.bfloat16 if self.options.precision == "bf16" else dtype or torch.float32
        n = 8192 if self.device.type == "cuda" else 1024
        a = torch.randn(n, n, device=self.device).to(dtype)
        seconds = self._seconds(lambda: a @ a, 5)
        self._flops_peak = 2 * n**3 / seconds
        return {"tflops": round(self._flops_peak / 1e12, 2)}

    def row(self, model: str, side: int, n_boxes: int) -> dict[str, Any]:
        """The whole annotator against its encoder alone."""
        settings = BuildSettings(
            source=SourceSettings(kind="shapes"),
            pool=PoolSettings(min_count=1),
            localizer=LocalizerSettings(kind="grid", max_proposals=n_boxes),
            teacher=self.teacher(model, side),
        )
        dim = teachers.load(settings.teacher).dim
        vocabulary = Vocabulary([f"thing {i}" for i in range(1000)], unit_rows(1000, dim), "0" * 16)
        threads = self.options_threads()
        annotator = Annotator(settings, vocabulary, "0" * 16, decode_threads=threads)
        forward_s, flops = self._forward(annotator, side, n_boxes)
        part = [
            {
                "key": f"{i:024x}", "source_key": str(i), "source": "", "captions": ["a red ball"], "mentioned": [0],
                "image": self._pictures[i % len(self._pictures)],
            }
            for i in range(self.options.batch * (1 if self._quick else 4))
        ]  # fmt: skip
        n_parts = max(2, min(12, int(20 / max(forward_s * len(part), 1e-3))))

        def annotate() -> None:
            with ThreadPoolExecutor(2) as pool:
                assert all(pool.map(lambda _: annotator(part, Rejects("x")), range(n_parts)))

        annotator(part[: self.options.batch], Rejects("x"))
        started = time.perf_counter()
        annotate()
        whole_s = (time.perf_counter() - started) / (n_parts * len(part))
        decode_s = statistics.median(_timed(lambda p=p: decode(p, 10**8)) for p in self._pictures)
        return {
            "images_per_s": round(1 / whole_s, 2),
            "of_forward": round(forward_s / whole_s, 3),
            "of_peak": round(flops / forward_s / self._flops_peak, 3),
            "decode_threads": threads,
            "decode_threads_needed": round(decode_s / forward_s, 2),
        }

    @staticmethod
    def options_threads() -> int:
        return max(1, (os.cpu_count() or 1) - 1)

    def _forward(self, annotator: Annotator, side: int, n_boxes: int) -> tuple[float, float]:
        """Seconds and operations per image of the bare encoder, its input on the device."""
        tower = annotator._teacher._regions  # type: ignore[attr-defined]  # the bare encoder has no other door
        picture = decode(self._pictures[0], 10**8)[0]
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
        seconds = self._seconds(forward, 2 if self._quick else 8)
        return seconds / len(batch), counter.get_total_flops() / len(batch)

    def roi_over_crop(self) -> float:
        model, side, n = ("RN50", 64, 8) if self._quick else ("RN50", 800, 100)
        images = [decode(p, 10**8)[0] for p in self._pictures[: 2 if self._quick else 8]]
        boxes = [grid(n)] * len(images)
        seconds = []
        for features, size in (("roi", side), ("crop", 0)):
            teacher = teachers.load(self.teacher(model, size, features=features))
            seconds.append(
                self._seconds(lambda t=teacher: t.encode_regions(images, boxes), 1 if self._quick else 3)
            )
        return round(seconds[1] / seconds[0], 2)

    def agreement(self) -> dict[str, float]:
        model, side, n = ("ViT-B-32", 64, 10) if self._quick else ("RN50", 800, 100)
        images = [decode(p, 10**8)[0] for p in self._pictures[: 2 if self._quick else 16]]
        boxes = [grid(n)] * len(images)

        def labels(precision: str) -> torch.Tensor:
            regions = torch.cat(
                teachers.load(self.teacher(model, side, precision=precision)).encode_regions(images, boxes)
            )
            regions = torch.nn.functional.normalize(regions - regions.mean(0), dim=1)
            return (regions @ unit_rows(200, regions.shape[1]).T).argmax(1)

        plain = labels("fp32")
        wanted = ("fp16", "bf16") if self.device.type == "cuda" else ("bf16",)
        return {p: round((labels(p) == plain).float().mean().item(), 4) for p in wanted}

    def train_step(self) -> Any:
        """The other benchmark's last line; a word of why where it cannot run here."""
        command = [sys.executable, "-m", "benchmarks.train_step", "--quick", "--device", self.options.device]
        root = Path(__file__).resolve().parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=environment,
                cwd=root,
                timeout=self.left_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no time was left"
        lines = done.stdout.splitlines()
        return json.loads(lines[-1]) if done.returncode == 0 and lines else done.stderr.strip()[-300:]

    def _seconds(self, work: Callable[[], Any], times: int) -> float:
        """Median seconds of a call, after one that warms up; the device has finished before the clock stops."""
        work()
        return statistics.median(_timed(work, self.device) for _ in range(times))


def _timed(work: Callable[[], Any], device: torch.device | None = None) -> float:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def grid(n: int) -> np.ndarray:
    """n boxes of many sizes: float32 [n, 4], the same each time."""
    random = np.random.default_rng(0)
    low = random.random((n, 2)) * 0.7
    return np.concatenate([low, low + 0.05 + random.random((n, 2)) * 0.25], axis=1).astype(np.float32)


def unit_rows(n: int, dim: int) -> torch.Tensor:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(rows, dim=1)


if __name__ == "__main__":
    main()
