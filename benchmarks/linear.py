"""Whether an image costs the same in a build of any size: part of `benchmarks/scale.py`.

Builds of n, 4n and 16n images through the local pipeline with the demo's models, in CPU seconds of this process, which does
everything. All have the pool of the largest one: a pool of their own would have more names the more captions there are,
and naming them costs by the name and not by the image.

- `linear`: what an image costs from the 4n-th to the last of the largest build over what it costs before that, by the CPU
  seconds between commits over those of a fixed piece of work that is done behind each part: CPU seconds themselves go up
  and down with what else the machine's cores do. `linear_interval`: its 95 % interval, by drawing runs of `RUN` parts
  again (1,000 times), since neighbours are alike. `linear_cpu_seconds`: the same without that work.
- `linear_of_builds`: whole builds, plan and tables included, per image beside that of n images; what a build of one part
  costs (`start_up_s`) is taken off each.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.null_models import settings_for
from benchmarks.part_costs import Clock
from concept_pool.settings import PoolSettings
from pipeline import build as builds
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings
from pipeline.sources.settings import SourceSettings
from pipeline.stages.chain import Job, Payload

#: Images a part; parts at either end of a build that are not looked at: work is done some parts ahead of the commits.
PART, AHEAD = 4, 4
#: Neighbouring parts that are drawn together.
RUN = 4


def linear(folder: Path, quick: bool) -> dict[str, Any]:
    """Small builds before and after the large one, so that a busy minute meets both; --quick: that one alone."""
    one, rounds = (8, 1) if quick else (128, 3)
    few, many = 4 * one, 16 * one
    _built(folder / "warm", one if quick else few, "")
    pool = Layout(str(folder / "warm")).pool
    spent: dict[int, list[float]] = {PART: [], one: [], few: [], many: []}
    early: list[np.ndarray] = []  # [parts, 2]: CPU seconds of each, and of the work behind it
    late: list[np.ndarray] = []
    for i in range(rounds):
        for n in (many,) if quick else (PART, one, few, many, PART, one, few):
            out = folder / f"{i}-{n}"
            cpu_s, parts = _built(out, n, pool)
            shutil.rmtree(out)
            spent[n].append(cpu_s)
            if n == many:
                early.append(parts[AHEAD : few // PART])
                late.append(parts[few // PART : -AHEAD])
    before, after = np.concatenate(early), np.concatenate(late)
    return {
        "linear": round(_cost(after) / _cost(before), 3),
        "linear_interval": [round(x, 3) for x in _interval(before, after)],
        "linear_cpu_seconds": round(float(after[:, 0].mean() / before[:, 0].mean()), 3),
        "linear_cpu_ms_per_image": [round(1000 * float(x[:, 0].mean()) / PART, 2) for x in (before, after)],
        "linear_work_cpu_ms": [round(1000 * float(x[:, 1].mean()), 2) for x in (before, after)],
        **({} if quick else _of_builds(spent)),
    }


def _of_builds(spent: dict[int, list[float]]) -> dict[str, Any]:
    """Whole builds without what one part takes."""
    start_up, *rest = (statistics.median(values) for values in spent.values())
    _, *sizes = spent
    ms = {n: 1000 * (value - start_up) / (n - PART) for n, value in zip(sizes, rest, strict=True)}
    return {
        "linear_of_builds": {str(n): round(value / ms[sizes[0]], 3) for n, value in ms.items()},
        "linear_cpu_ms_of_builds": {str(n): round(value, 2) for n, value in ms.items()},
        "linear_start_up_s": round(start_up, 2),
    }


def _cost(parts: np.ndarray) -> float:
    """What parts cost, in pieces of the fixed work."""
    cpu_s, work_s = parts.mean(axis=0)
    return float(cpu_s / work_s)


def _interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """95 % of the ratio of costs, by bootstrap over runs of neighbouring parts."""
    rng = np.random.default_rng(0)

    def drawn(parts: np.ndarray) -> np.ndarray:
        starts = rng.integers(0, len(parts) - RUN + 1, -(-len(parts) // RUN))
        return parts[(starts[:, None] + np.arange(RUN)).ravel()]

    found = [_cost(drawn(after)) / _cost(drawn(before)) for _ in range(1000)]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


class Beside(Clock):
    """Notes the CPU seconds of each part, and of a fixed piece of work that it does behind the part."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[float] = []
        self._pixels = torch.rand(1, 32, 64, 64, generator=torch.Generator().manual_seed(0))
        self._weights = torch.rand(32, 32, 3, 3, generator=torch.Generator().manual_seed(1))

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        for payload in LocalRunner.run(self, stages, job, parts):
            self.marks.append(time.process_time() - sum(self.work))
            started = time.thread_time()
            self._do()
            self.work.append(time.thread_time() - started)
            yield payload

    def _do(self) -> None:
        """Some milliseconds, half in torch and half in Python, as a part."""
        for _ in range(3):
            torch.nn.functional.conv2d(self._pixels, self._weights, padding=1)
        sorted({str(i): i * i for i in range(12_000)})


def _built(out: Path, n: int, pool: str) -> tuple[float, np.ndarray]:
    """CPU seconds of a build of n images; [parts - 1, 2]: those of each part but the first, and of the work behind it.

    Every caption is parsed: there are the more repeated ones the more images there are, and remembering them would hide
    what an image costs.
    """
    settings = settings_for(
        out,
        source=SourceSettings(kind="shapes", count=n, size=96),
        samples_per_shard=PART,
        pool=PoolSettings(min_count=1, cache_captions=0, path=pool),
        align=AlignSettings(tau=0.1, threshold=0.2),
        report=False,
    )
    runner = Beside()
    started = time.process_time()
    builds.build(settings, runner)
    cpu_s = time.process_time() - started - sum(runner.work)
    return cpu_s, np.stack([np.diff(runner.marks), runner.work[1:]], axis=1)
