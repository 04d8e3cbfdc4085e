"""Many small results as Ray tasks, merged as a tree: no process ever holds more than a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ray

from jobs.on_ray.cluster import connect

#: Results that one task merges.
MERGE_WIDTH = 8


def merged_tasks(
    function: Callable[..., Any],
    merge: Callable[..., Any],
    work: Iterable[tuple[Any, ...]],
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Any]:
    """`function(*arguments)` for every item of `work`, merged by `merge(*results)` into a few results.

    At most a few tasks a CPU are in flight, however much there is. `on_done` gets how many items were done since it was
    called last. An error of a task ends the job.
    """
    connect()
    task = ray.remote(function).options(num_cpus=1)
    merging = ray.remote(merge).options(num_cpus=1)
    window = max(4, int(3 * ray.cluster_resources().get("CPU", 1)))
    levels: list[list[Any]] = [[]]
    running: set[Any] = set()
    for arguments in work:
        if len(running) >= window:
            done, left = ray.wait(list(running), num_returns=1)
            ray.get(done)
            running = set(left)
            on_done(len(done))
        ref = task.remote(*arguments)
        running.add(ref)
        _add(levels, ref, merging)
    results = ray.get([ref for level in levels for ref in level])
    on_done(len(running))
    return results


def _add(levels: list[list[Any]], ref: Any, merging: Any) -> None:
    """Puts a result into the tree: `MERGE_WIDTH` results of a level become one of the next."""
    depth = 0
    levels[0].append(ref)
    while len(levels[depth]) == MERGE_WIDTH:
        merged = merging.remote(*levels[depth])
        levels[depth] = []
        depth += 1
        if depth == len(levels):
            levels.append([])
        levels[depth].append(merged)
