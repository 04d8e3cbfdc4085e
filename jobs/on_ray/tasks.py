"""A function over items as Ray tasks, one a task: how a study trains its students on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from jobs.on_ray.cluster import connect


@dataclass(frozen=True)
class TaskMap:
    """`map(function, items)` on the cluster of this job. cpus, gpus: what Ray reserves for one item."""

    cpus: float = 1.0
    gpus: float = 0.0

    def __call__(self, function: Callable[[Any], Any], items: Sequence[Any], /) -> Iterator[Any]:
        """The results, each as soon as it is there; an exception in a task is raised here."""
        connect(without="--parallel.runtime=local")
        task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(_call)
        waiting = [task.remote(function, item) for item in items]
        while waiting:
            (done,), waiting = ray.wait(waiting, num_returns=1)
            yield ray.get(done)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)
