"""Whether an image costs the same in a build of any size: part of `benchmarks/scale.py`.

A build costs a + n b: `a` is loading, planning, the pool, the tables; `b` is what is asked for. The slope between two
sizes is b without any of a. All builds have the pool of the largest one: a pool of their own would have more names the
more captions there are, up to all names of the world, and naming them costs by the name and not by the image.

`linear` is the slope from 4n to 16n over the slope from n to 4n, each from the least of the rounds, since other programs
only ever add to CPU time: 1 is a cost that does not grow. `linear_rounds` has it of each round: how far to trust it.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.null_models import settings_for
from concept_pool.settings import PoolSettings
from pipeline import build as builds
from pipeline.dataset.layout import Layout
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings
from pipeline.sources.settings import SourceSettings


def linear(folder: Path, quick: bool) -> dict[str, Any]:
    """Builds of n, 4n and 16n images in turns."""
    one, rounds = (8, 3) if quick else (64, 5)
    sizes = (one, 4 * one, 16 * one)
    _built(folder / "warm", sizes[2], "")
    pool = Layout(str(folder / "warm")).pool
    found: dict[int, list[float]] = {n: [] for n in sizes}
    for i in range(rounds):  # in turns, so that a busy minute meets all sizes
        for n in sizes:
            found[n].append(_built(folder / f"{i}-{n}", n, pool))
    least = {n: min(values) for n, values in found.items()}
    low, high = _slopes(*least.values(), one)
    rounds_of = [_slopes(*times, one) for times in zip(*found.values(), strict=True)]
    return {
        "linear": round(high / low, 3),
        "linear_median_of_rounds": round(statistics.median(h / b for b, h in rounds_of), 3),
        "linear_rounds": [round(h / b, 2) for b, h in rounds_of],
        "cpu_ms_per_image": {
            f"{one}-{4 * one}": round(1000 * low, 2),
            f"{4 * one}-{16 * one}": round(1000 * high, 2),
        },
        "start_up_s": round(least[one] - one * low, 2),
    }


def _slopes(first: float, second: float, third: float, one: int) -> tuple[float, float]:
    """CPU seconds an image, from n to 4n and from 4n to 16n."""
    return (second - first) / (3 * one), (third - second) / (12 * one)


def _built(out: Path, n: int, pool: str) -> float:
    """CPU seconds of a build of n images with the demo's models. Every caption is parsed: there are the more repeated ones
    the more images there are, and remembering them would hide what an image costs."""
    settings = settings_for(
        out,
        source=SourceSettings(kind="shapes", count=n, size=96),
        samples_per_shard=8,
        pool=PoolSettings(min_count=1, cache_captions=0, path=pool),
        align=AlignSettings(tau=0.1, threshold=0.2),
        report=False,
    )
    started = time.process_time()
    builds.build(settings, LocalRunner())
    return time.process_time() - started
