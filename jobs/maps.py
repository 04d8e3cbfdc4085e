"""Where a study's students are trained: in this process, or as Ray tasks."""

from __future__ import annotations

from typing import Any

from evaluation.studies.settings import Parallel


def map_of(parallel: Parallel) -> Any:
    """The builtin `map`, or Ray's (jobs/on_ray/tasks.py)."""
    if parallel.runtime == "local":
        return map
    from jobs.on_ray.tasks import TaskMap

    return TaskMap(parallel.cpus_per_run, parallel.gpus_per_run)
