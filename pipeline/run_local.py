"""The plain runner: this process, no Ray. `workers` threads take parts side by side."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from pipeline.dataset.plan import Parts
from pipeline.devices import resolve_device
from pipeline.settings import BuildSettings
from pipeline.stages.chain import Job, Payload, fold


class LocalRunner:
    """Stages are built once and shared by the threads; torch and image decoding release the interpreter lock."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items)

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        built = [stage(job) for stage in stages]
        workers = min(job.settings.workers or default_workers(job.settings), len(parts))
        waiting = iter(parts)
        running: set[Future[Payload]] = set()
        with ThreadPoolExecutor(workers) as pool:
            try:
                running = {pool.submit(fold, built, part) for part in itertools.islice(waiting, workers)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        if (part := next(waiting, None)) is not None:
                            running.add(pool.submit(fold, built, part))
                        yield future.result()
            finally:
                for future in running:
                    future.cancel()


def default_workers(settings: BuildSettings) -> int:
    """One annotator where a GPU does the work, else one a CPU core that `threads` leaves."""
    if resolve_device(settings.teacher.device) != "cpu":
        return 1
    return max(1, (os.cpu_count() or 1) // settings.threads)
