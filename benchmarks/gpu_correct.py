"""Whether a card computes what the CPU does: steps of `benchmarks/gpu.py`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from benchmarks.gpu_bench import Bench
from benchmarks.timing import cosine, grid, unit_rows
from pipeline import teachers
from pipeline.images import decode
from pipeline.rejects import Rejects
from pipeline.run_local import BESIDE

#: How far the centred embeddings of a device may be from those of the CPU, as a cosine.
LEAST_COSINE = 0.99


def correct(bench: Bench) -> dict[str, Any]:
    """Raises AssertionError if the device's embeddings are not the CPU's."""
    images = [decode(p, 10**8)[0] for p in bench.pictures[: 2 if bench.quick else 4]]
    boxes = [grid(4 if bench.quick else 12)] * len(images)
    found = {}
    torch.backends.cudnn.allow_tf32 = False
    for model, side in (
        [("RN50", 64), ("ViT-B-16", 64)] if bench.quick else [("RN50", 320), ("ViT-B-16", 224)]
    ):
        there = teachers.load(bench.teacher(model, side, precision="fp32", batch_images=4))
        here = teachers.load(bench.teacher(model, side, precision="fp32", batch_images=1, device="cpu"))
        on_device, on_cpu = there.encode_regions(images, boxes), here.encode_regions(images, boxes)
        alone = there.encode_regions(images[:1], boxes[:1])
        centre = torch.cat(on_cpu).mean(0)
        worst = {
            "worst_cosine_to_cpu": cosine(on_device, on_cpu, centre),
            "worst_cosine_alone_to_batch": cosine(alone, on_device[:1], centre),
        }
        assert min(worst.values()) > LEAST_COSINE, (model, worst)
        found[model] = {name: round(value, 6) for name, value in worst.items()}
    torch.backends.cudnn.allow_tf32 = True
    return found


def side_by_side(bench: Bench) -> dict[str, float]:
    """Share of samples that get the same bytes from parts annotated side by side, each in a stream of its own, as from
    parts one after the other."""
    annotator, _ = bench.annotator(*(("ViT-B-16", 64, 4) if bench.quick else ("RN50", 320, 100)), threads=2)
    parts = [bench.part() for _ in range(6)]
    alone = [annotator(part, Rejects("x")) for part in parts]
    with ThreadPoolExecutor(1 + BESIDE) as pool:
        beside = list(pool.map(lambda part: annotator(part, Rejects("x")), parts))
    same = [a == b for one, other in zip(alone, beside, strict=True) for a, b in zip(one, other, strict=True)]
    return {"same_bytes": round(sum(same) / len(same), 4)}


def agreement(bench: Bench) -> dict[str, float]:
    """Also of fp16 on a CPU, which emulates it."""
    model, side, n = ("ViT-B-32", 64, 10) if bench.quick else ("RN50", 800, 100)
    images = [decode(p, 10**8)[0] for p in bench.pictures[: 2 if bench.quick else 16]]
    boxes = [grid(n)] * len(images)

    def labels(precision: str) -> torch.Tensor:
        regions = torch.cat(
            teachers.load(bench.teacher(model, side, precision=precision)).encode_regions(images, boxes)
        )
        regions = torch.nn.functional.normalize(regions - regions.mean(0), dim=1)
        return (regions @ unit_rows(200, regions.shape[1]).T).argmax(1)

    plain = labels("fp32")
    return {p: round((labels(p) == plain).float().mean().item(), 4) for p in ("fp16", "bf16")}
