"""One stage's pool of Ray actors, that grows and shrinks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

log = logging.getLogger("regionpairs")

#: Seconds without work after which a worker goes that its pool can spare.
IDLE_S = 30.0
#: Starts of a pool's workers in a row that may fail, and times that a part may lose its worker.
TRIES = 3


class Broken(RuntimeError):
    """The pools cannot go on: no worker starts, or nothing has moved for too long."""


@dataclass(eq=False)
class Item:
    """A part on its way. data, images: what the next stage gets, values or the references of what stages before gave.

    A stage that leaves the images as they are gives none: the next one gets those of the stage before it.
    """

    start: Any
    data: Any
    images: Any = None
    stage: int = 0
    tries: int = 0


@dataclass(eq=False)
class Worker:
    """An actor. ready: set once its constructor has returned. alone: it has a part that lost a worker before, and gets no
    other one beside it."""

    actor: Any
    ready: bool = False
    alone: bool = False
    busy: int = 0
    idle_since: float = field(default_factory=time.monotonic)


class Pool:
    """The workers of one stage. start: makes an actor with a method `step(data, images) -> (data, images, note)`; the note
    says whether the images are those that it was given, and then it gives None for them.

    resources: what each reserves, for messages. least, most: of them. flight: parts that one may have at a time.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Any],
        resources: dict[str, float],
        least: int,
        most: int,
        flight: int,
    ):
        self.name, self.resources, self.flight = name, resources, flight
        self.least, self.most = least, max(least, most)
        self.queue: deque[Item] = deque()
        self.workers: list[Worker] = []
        self.largest = 0
        self.failed = 0
        self._start = start
        self._starting: dict[Any, Worker] = {}

    @property
    def starting(self) -> list[Any]:
        """References that are ready when a worker is."""
        return list(self._starting)

    @property
    def n_ready(self) -> int:
        return sum(worker.ready for worker in self.workers)

    @property
    def is_full(self) -> bool:
        """Whether no worker could take another part."""
        return all(worker.busy >= self.flight for worker in self.workers if worker.ready)

    def resize(self, wanted: int) -> None:
        """Starts workers up to `wanted`; lets workers go that idle and are more than that."""
        wanted = max(self.least, min(self.most, wanted))
        while len(self.workers) < wanted:
            worker = Worker(self._start())
            self._starting[worker.actor.__ray_ready__.remote()] = worker
            self.workers.append(worker)
            self.largest = max(self.largest, len(self.workers))
        now = time.monotonic()
        for worker in sorted(self.workers, key=lambda w: w.ready):
            if len(self.workers) <= wanted:
                return
            if not worker.busy and now - worker.idle_since > IDLE_S:
                self.lose(worker)

    def is_up(self, reference: Any) -> None:
        """Takes note of a worker that started, or could not. Raises Broken if none can."""
        worker = self._starting.pop(reference, None)
        if worker is None:
            return
        try:
            ray.get(reference)
            worker.ready, worker.idle_since, self.failed = True, time.monotonic(), 0
        except RayError as e:
            self.lose(worker)
            self.failed += 1
            if self.failed >= TRIES:
                raise Broken(f"no worker of stage {self.name} can start: {last_line(e)}") from e
            log.warning("a worker of stage %s could not start: %s", self.name, last_line(e))

    def lose(self, worker: Worker) -> None:
        """Ends a worker."""
        if worker in self.workers:
            self.workers.remove(worker)
        self._starting = {ref: w for ref, w in self._starting.items() if w is not worker}
        ray.kill(worker.actor)

    def dispatch(self) -> Iterator[tuple[Any, Worker, Item, Any]]:
        """Hands waiting parts to the workers that have most room; yields the references of each one's note and images."""
        while self.queue:
            suspect = self.queue[0].tries > 0  # what ends a worker must not take other parts with it again
            most = 1 if suspect else self.flight
            free = [w for w in self.workers if w.ready and w.busy < most and not w.alone]
            if not free:
                return
            worker, item = min(free, key=lambda w: w.busy), self.queue.popleft()
            worker.busy, worker.alone = worker.busy + 1, suspect
            step = worker.actor.step.options(num_returns=3)
            item.data, images, note = step.remote(item.data, item.images)
            yield note, worker, item, images

    def stop(self) -> None:
        for worker in list(self.workers):
            self.lose(worker)


def last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
