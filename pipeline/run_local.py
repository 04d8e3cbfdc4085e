"""The plain runner: this process, no Ray. Threads take parts side by side; much parsing goes to processes."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from pipeline.dataset.plan import Parts
from pipeline.devices import resolve_device
from pipeline.progress import Stages
from pipeline.settings import BuildSettings
from pipeline.stages.chain import Job, Payload, fold

log = logging.getLogger("regionpairs")

#: Parts in work beside those whose models run: one is read or committed, one is decoded.
BESIDE = 2
#: Seconds that slow items must take in all, as the first ones say, before processes are started for them. A process needs
#: some seconds of its own for imports and spaCy.
WORTH_S = 20.0
#: Slow items that are tried in this process first.
TRIED = 2


class LocalRunner:
    """Stages are built once and shared by the threads; torch and image decoding release the interpreter lock.

    processes: most of them for slow items.
    """

    processes = os.cpu_count() or 1
    _stages: Stages = {}  # noqa: RUF012 - replaced, never changed

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False) -> Iterator[Any]:
        if not slow or self.processes == 1:
            yield from map(function, items)
            return
        rest = iter(items)
        started = time.perf_counter()
        for item in itertools.islice(rest, TRIED):
            yield function(item)
        one_s = (time.perf_counter() - started) / TRIED
        waiting = list(rest)
        if len(waiting) * one_s < WORTH_S:
            yield from map(function, waiting)
        else:
            yield from self._in_processes(function, waiting)

    def _in_processes(self, function: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
        """Fresh processes, not forks: this one has threads. Where they cannot start (a program without a main guard, say),
        the rest is done here."""
        n_done = 0
        context = multiprocessing.get_context("spawn")
        flight: deque[Future[Any]] = deque()
        try:
            with ProcessPoolExecutor(min(self.processes, len(items)), mp_context=context) as pool:
                for item in items:
                    flight.append(pool.submit(function, item))
                    if len(flight) > 2 * self.processes:
                        yield flight.popleft().result()
                        n_done += 1
                while flight:
                    yield flight.popleft().result()
                    n_done += 1
        except BrokenProcessPool as e:
            log.warning("no processes for parsing (%s); one core does it", e)
            yield from map(function, items[n_done:])

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        workers = min(job.settings.workers or default_workers(job.settings), len(parts))
        decode_threads = job.settings.decode_threads or max(1, (os.cpu_count() or 1) // workers)
        job = replace(job, at_once=workers, decode_threads=decode_threads)
        built = [stage(job) for stage in stages]
        n_threads = min(workers + BESIDE, len(parts))
        self._stages = {stage.name: {"workers": n_threads, "most_workers": n_threads} for stage in built}
        waiting = iter(parts)
        running: set[Future[Payload]] = set()
        with ThreadPoolExecutor(n_threads) as pool:
            try:
                running = {pool.submit(fold, built, part) for part in itertools.islice(waiting, n_threads)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        if (part := next(waiting, None)) is not None:
                            running.add(pool.submit(fold, built, part))
                        yield future.result()
            finally:
                for future in running:
                    future.cancel()

    def stages(self) -> Stages:
        return self._stages

    def stored_bytes(self) -> int:
        return 0


def default_workers(settings: BuildSettings) -> int:
    """One annotator where a GPU does the work, else one a CPU core that `threads` leaves."""
    if resolve_device(settings.teacher.device) != "cpu":
        return 1
    return max(1, (os.cpu_count() or 1) // settings.threads)
