"""The plain runner: this process, no Ray. `workers` threads take parts side by side."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from concept_pool.count import Counts
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset.plan import Part, Plan
from pipeline.settings import BuildSettings
from pipeline.stages import chain as stages


class LocalRunner:
    """Stages are built once and shared by the threads; torch and image decoding release the interpreter lock."""

    def count(self, settings: BuildSettings, plan: Plan, parts: list[Part]) -> Counts:
        return vocabulary.count_parts(settings, plan, parts)

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def run(self, job: stages.Job, parts: list[Part]) -> Iterator[dict[str, Any]]:
        read, annotate, commit = stages.Read(job), stages.Annotate(job), stages.Commit(job)

        def work(part: Part) -> dict[str, Any]:
            return commit(annotate(read(read.start(part))))

        workers = min(job.settings.workers or default_workers(job.settings), len(parts))
        waiting = iter(parts)
        running: set[Future[dict[str, Any]]] = set()
        with ThreadPoolExecutor(workers) as pool:
            try:
                running = {pool.submit(work, part) for part in itertools.islice(waiting, workers)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        if (part := next(waiting, None)) is not None:
                            running.add(pool.submit(work, part))
                        yield future.result()
            finally:
                for future in running:
                    future.cancel()


def default_workers(settings: BuildSettings) -> int:
    """One annotator where a GPU does the work, else one a CPU core that `threads` leaves."""
    if settings.teacher.device != "cpu":
        return 1
    return max(1, (os.cpu_count() or 1) // settings.threads)
