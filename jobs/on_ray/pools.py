"""Pools of Ray actors, one a stage, that grow and shrink; parts wander through them without passing the driver.

The driver holds the parts that are on their way and nothing of the others. How many may be on their way follows the
pool in the middle (`Pipeline.room`), so the object store holds a few payloads per annotator whatever the plan's size. A
part whose worker or node was lost starts again from its first stage: nothing of it was committed, or it is committed
again with the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from jobs.on_ray.pool import TRIES, Broken, Item, Pool, Worker, last_line

log = logging.getLogger("regionpairs")

#: Seconds between two looks at pools that have nothing to say, until a wait for resources is said, and one for parts.
LOOK_S, SAY_S, PATIENT_S = 1.0, 30.0, 300.0


class Pipeline:
    """Items through pools, one after the other. middle: the pool that all others serve.

    no_progress_s: seconds in which nothing moves, after which it gives up.
    """

    def __init__(self, pools: list[Pool], middle: int, no_progress_s: float):
        self.pools, self._middle, self._no_progress_s = pools, middle, no_progress_s
        self._flight: dict[Any, tuple[Pool, Worker, Item, Any]] = {}
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
                    for note, worker, item, images in pool.dispatch():
                        self._flight[note] = (pool, worker, item, images)
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
        pool, worker, item, images = self._flight.pop(reference)
        worker.busy, worker.alone = worker.busy - 1, False
        worker.idle_since = time.monotonic()
        try:
            if not ray.get(reference):
                item.images = images
            item.stage += 1
            if item.stage == len(self.pools):
                yield item.start, ray.get(item.data), ""
                return
        except RayError as e:
            if not _is_alive(worker.actor):
                pool.lose(worker)
            item.tries += 1
            log.warning(
                "stage %s lost a worker or its input (%s); its part starts again", pool.name, last_line(e)
            )
            if item.tries >= TRIES:
                yield (
                    item.start,
                    None,
                    f"lost its worker {TRIES} times, last in stage {pool.name}: {last_line(e)}",
                )
                return
            item.stage, item.data, item.images = 0, item.start, None
        self.pools[item.stage].queue.append(item)

    def _watch(self) -> None:
        """Says what is waited for, and gives up after a time."""
        now = time.monotonic()
        waited = now - self._moved
        if waited < min(SAY_S, self._no_progress_s):
            return
        needs = list(self._needs())
        text = "; ".join(needs) or "every stage has workers, and none of them is done with its part"
        if waited >= self._no_progress_s:
            raise Broken(f"nothing has moved for {waited:.0f} s (no_progress_s): {text}")
        # Where every stage has workers, a part that takes a minute is nothing to speak of.
        if now - max(self._said, self._moved) < (SAY_S if needs else PATIENT_S):
            return
        self._said = now
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
