"""Annotators in processes of their own that share a card: a step of `benchmarks/gpu.py`.

A process has one interpreter lock: what decodes, packs and hands work to the GPU passes through it. On Ray,
`gpus_per_worker: 0.25` puts four annotators on a card.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu_bench import Bench, row_name
from pipeline.rejects import Rejects
from pipeline.run_local import BESIDE

#: A model, its short side in pixels, its boxes.
Case = tuple[str, int, int]
#: Processes that share the card, for how many seconds they annotate, and how long one may take to start.
PROCESSES, SECONDS, START_S = 4, 10.0, 120.0


def sharing(
    options: argparse.Namespace, cases: list[Case], forward_s: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """images/s of all processes together by case, and over the bare encoder's where `forward_s`, by row, has it."""
    cases, n, seconds = ([("ViT-B-16", 64, 4)], 2, 1.0) if options.quick else (cases, PROCESSES, SECONDS)
    context = multiprocessing.get_context("spawn")
    found = {}
    for case in cases:
        start, rates = context.Barrier(n), context.Queue()
        workers = [
            context.Process(target=_share, args=(options, case, n, seconds, start, rates), daemon=True)
            for _ in range(n)
        ]
        for worker in workers:
            worker.start()
        rate = sum(rates.get(timeout=2 * START_S) for _ in workers)
        for worker in workers:
            worker.join()
        bare = forward_s.get(row_name(*case))
        found[row_name(*case)] = {
            "processes": n,
            "images_per_s": round(rate, 2),
            "of_forward": round(rate * bare, 3) if bare else None,
        }
    return found


def _share(options: argparse.Namespace, case: Case, n: int, seconds: float, start: Any, rates: Any) -> None:
    """One of n processes: once all are ready, annotates for some seconds and says at how many images/s."""
    bench = Bench(options)
    annotator, _ = bench.annotator(*case, threads=max(1, (os.cpu_count() or 1) // n))
    part = bench.part()
    annotator(part[: options.batch], Rejects("x"))
    start.wait(timeout=START_S)
    started = time.perf_counter()

    def annotate() -> float:
        done = 0
        while time.perf_counter() < started + seconds:
            done += len(annotator(part, Rejects("x")))
        return done / (time.perf_counter() - started)

    with ThreadPoolExecutor(1 + BESIDE) as pool:
        rates.put(sum(pool.map(lambda _: annotate(), range(1 + BESIDE))))
