"""Pools of Ray actors, one a stage, that grow and shrink; parts wander through them without passing the driver.

The driver holds the parts that are on their way and nothing of the others. How many may be on their way follows the
pool in the middle (`Pipeline.room`), so the object store holds a few payloads per annotator whatever the plan's size. A
part whose worker or node was lost starts again from its first stage: nothing of it was committed, or it is committed
again with the same bytes.
"""

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
#: Seconds between two looks at pools that have nothing to say, until a wait for resources is said, and one for parts.
LOOK_S, SAY_S, PATIENT_S = 1.0, 30.0, 300.0


class Broken(RuntimeError):
    """The pools cannot go on: no worker starts, or nothing has moved for too long."""


@dataclass(eq=False)
class Item:
    """A part on its way. data: what the next stage gets, a value or the reference of what the last one gave."""

    start: Any
    data: Any
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
    """The workers of one stage. start: makes an actor with a method `step(data) -> (data, note)`.

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
                raise Broken(f"no worker of stage {self.name} can start: {_last_line(e)}") from e
            log.warning("a worker of stage %s could not start: %s", self.name, _last_line(e))

    def lose(self, worker: Worker) -> None:
        """Ends a worker."""
        if worker in self.workers:
            self.workers.remove(worker)
        self._starting = {ref: w for ref, w in self._starting.items() if w is not worker}
        ray.kill(worker.actor)

    def dispatch(self) -> Iterator[tuple[Any, Worker, Item]]:
        """Hands waiting parts to the workers that have most room; yields the reference of each one's note."""
        while self.queue:
            suspect = self.queue[0].tries > 0  # what ends a worker must not take other parts with it again
            most = 1 if suspect else self.flight
            free = [w for w in self.workers if w.ready and w.busy < most and not w.alone]
            if not free:
                return
            worker, item = min(free, key=lambda w: w.busy), self.queue.popleft()
            worker.busy, worker.alone = worker.busy + 1, suspect
            item.data, note = worker.actor.step.options(num_returns=2).remote(item.data)
            yield note, worker, item

    def stop(self) -> None:
        for worker in list(self.workers):
            self.lose(worker)


class Pipeline:
    """Items through pools, one after the other. middle: the pool that all others serve.

    no_progress_s: seconds in which nothing moves, after which it gives up.
    """

    def __init__(self, pools: list[Pool], middle: int, no_progress_s: float):
        self.pools, self._middle, self._no_progress_s = pools, middle, no_progress_s
        self._flight: dict[Any, tuple[Pool, Worker, Item]] = {}
        self._moved = self._said = time.monotonic()
        self._n_live = 0

    @property
    def room(self) -> int:
        """Parts that may be on their way: what the middle's workers have and may have next, and one a worker besides."""
        middle = self.pools[self._middle]
        others = sum(len(pool.workers) for pool in self.pools if pool is not middle)
        return max(2, (middle.flight + 1) * max(1, middle.n_ready) + others)

    def run(self, items: Iterator[Any], n_items: int) -> Iterator[tuple[Any, Any, str]]:
        """Yields (item, what the last stage gave, "") as each is done, or (item, None, why) for one that lost workers too
        often. Raises Broken."""
        left = n_items
        try:
            while left:
                self._feed(items)
                self._resize(left)
                for pool in self.pools:
                    for note, worker, item in pool.dispatch():
                        self._flight[note] = (pool, worker, item)
                for found in self._wait():
                    left -= 1
                    self._n_live -= 1
                    yield found
                self._watch()
        finally:
            for pool in self.pools:
                pool.stop()

    def _feed(self, items: Iterator[Any]) -> None:
        while self._n_live < self.room and (start := next(items, None)) is not None:
            self.pools[0].queue.append(Item(start, start))
            self._n_live += 1

    def _resize(self, left: int) -> None:
        """The middle has as many workers as there are parts for; those before it grow while it starves, those behind while
        parts pile up."""
        middle = self.pools[self._middle]
        for position, pool in enumerate(self.pools):
            n = len(pool.workers)
            if pool is middle:
                pool.resize(left)
            elif n != pool.n_ready:
                continue  # one is on its way
            elif position < self._middle:
                starves = not middle.queue and not middle.is_full
                pool.resize(n + 1 if pool.queue and pool.is_full and starves else _spare(pool))
            else:
                pool.resize(n + 1 if len(pool.queue) > 2 * n else _spare(pool))

    def _wait(self) -> Iterator[tuple[Any, Any, str]]:
        references = [*self._flight, *(ref for pool in self.pools for ref in pool.starting)]
        if not references:
            time.sleep(0.05)
            return
        done, _ = ray.wait(references, num_returns=1, timeout=LOOK_S, fetch_local=False)
        if done:  # whatever else is there already
            done, _ = ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
        for reference in done:
            self._moved = time.monotonic()
            if reference in self._flight:
                yield from self._arrived(reference)
            else:
                for pool in self.pools:
                    pool.is_up(reference)

    def _arrived(self, reference: Any) -> Iterator[tuple[Any, Any, str]]:
        pool, worker, item = self._flight.pop(reference)
        worker.busy, worker.alone = worker.busy - 1, False
        worker.idle_since = time.monotonic()
        try:
            ray.get(reference)
            item.stage += 1
            if item.stage == len(self.pools):
                yield item.start, ray.get(item.data), ""
                return
        except RayError as e:
            if not _is_alive(worker.actor):
                pool.lose(worker)
            item.tries += 1
            log.warning(
                "stage %s lost a worker or its input (%s); its part starts again", pool.name, _last_line(e)
            )
            if item.tries >= TRIES:
                yield (
                    item.start,
                    None,
                    f"lost its worker {TRIES} times, last in stage {pool.name}: {_last_line(e)}",
                )
                return
            item.stage, item.data = 0, item.start
        self.pools[item.stage].queue.append(item)

    def _watch(self) -> None:
        """Says what is waited for, and gives up after a time."""
        now = time.monotonic()
        waited = now - self._moved
        if waited < min(SAY_S, self._no_progress_s):
            return
        needs = list(
            self._needs()
        )  # where every stage has workers, a part that takes a minute is nothing to speak of
        if now - max(self._said, self._moved) < min(SAY_S if needs else PATIENT_S, self._no_progress_s):
            return
        self._said = now
        text = "; ".join(needs) or "every stage has workers, and none of them is done with its part"
        if waited >= self._no_progress_s:
            raise Broken(f"nothing has moved for {waited:.0f} s (no_progress_s): {text}")
        log.warning("nothing has moved for %.0f s: %s", waited, text)

    def _needs(self) -> Iterator[str]:
        for pool in self.pools:
            if not pool.n_ready:
                yield f"stage {pool.name} {what_is_missing(pool.resources)}"

    def stages(self) -> dict[str, dict[str, int]]:
        """`pipeline.progress.Stages`."""
        return {
            pool.name: {"workers": pool.n_ready, "most_workers": pool.largest, "waiting": len(pool.queue)}
            for pool in self.pools
        }


def _spare(pool: Pool) -> int:
    """How many workers a pool keeps when nothing asks for more: those that have something to do."""
    return sum(worker.busy > 0 for worker in pool.workers)


def _is_alive(actor: Any) -> bool:
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=5)
    except (RayError, TimeoutError):
        return False
    return True


def what_is_missing(resources: dict[str, float]) -> str:
    """Why a worker of these resources may find no place."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = any(all(node.get(name, 0) >= n for name, n in resources.items() if n) for node in there)
    why = "every node that has it is taken, or its workers still start" if fits else "no node has that much"
    return f"asks for {_said(resources)} a worker, and {why}"


def _said(resources: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount) or "nothing"


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
