"""The Ray runner: the same stages as pools of actors, on a cluster or on this machine.

A part travels from actor to actor (`actor.py`); actors receive paths and settings and load weights themselves, so that
nothing large is made or kept on the driver.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from jobs.on_ray.actor import Actor, from_bytes, to_bytes
from jobs.on_ray.cluster import connect, most_resources, versions
from jobs.on_ray.metrics import Metrics
from jobs.on_ray.pool import Broken, Pool
from jobs.on_ray.pools import SAY_S, Pipeline, what_is_missing
from pipeline.dataset.plan import Part, Parts
from pipeline.progress import Incomplete, Stages
from pipeline.settings import BuildSettings
from pipeline.stages.chain import Job, Payload

log = logging.getLogger("regionpairs")

#: CPUs a worker of the light stages reserves, and of the others where no GPU and no setting says more.
READ_CPUS, COMMIT_CPUS, COMPUTE_CPUS = 0.1, 0.15, 0.75
#: Parts that one worker has at a time: of a light stage one in work and one at hand; of the others one whose models run and
#: one that decodes or packs.
FLIGHT = 2
#: Workers of a light stage for each of the others, at most.
LIGHT_FOR_EACH = 2
#: What Ray calls the memory of its object store among the resources.
STORE = "object_store_memory"
#: Tasks of `map` in flight, for each CPU.
TASKS_A_CPU = 3


class RayRunner:
    """Runs a build on the cluster that `connect` found."""

    _pipeline: Pipeline | None = None

    def __init__(self, no_progress_s: float = BuildSettings.no_progress_s) -> None:
        connect()
        self._no_progress_s = no_progress_s

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False) -> Iterator[Any]:
        """Items as tasks of one CPU, results in order, a bounded number in flight."""
        wait_for_room({"CPU": 1.0, "GPU": 0.0}, self._no_progress_s, "a task")
        task = ray.remote(num_cpus=1, max_retries=3)(_apply)
        shared = ray.put(function)
        flight: deque[Any] = deque()
        for item in items:
            flight.append(task.remote(shared, item))
            if len(flight) >= TASKS_A_CPU * max(1, int(ray.cluster_resources().get("CPU", 1))):
                yield _result(flight.popleft())
        while flight:
            yield _result(flight.popleft())

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        resources = {"CPU": 1.0, "GPU": gpus_of(settings)}
        wait_for_room(resources, settings.no_progress_s, "the models' side")
        task = ray.remote(num_cpus=resources["CPU"], num_gpus=resources["GPU"])(function)
        return ray.get(task.remote(*arguments))

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        pools = [_pool(stage, i, len(stages), job, len(parts)) for i, stage in enumerate(stages)]
        self._pipeline = Pipeline(pools, len(stages) // 2, job.settings.no_progress_s)
        metrics = Metrics()
        try:
            for start, data, why in self._pipeline.run((_start(part) for part in parts), len(parts)):
                payload = replace(from_bytes(start), error=why) if why else from_bytes(data)
                metrics.add(payload)
                metrics.show(self.stages(), self.stored_bytes)
                yield payload
        except Broken as e:
            raise Incomplete(f"{e}; what is committed stays, and the same command goes on") from e

    def stages(self) -> Stages:
        return self._pipeline.stages() if self._pipeline else {}

    def stored_bytes(self) -> int:
        """Of the object stores of all nodes, whoever uses them."""
        there, free = ray.cluster_resources(), ray.available_resources()
        return int(max(0.0, there.get(STORE, 0.0) - free.get(STORE, 0.0)))


def wait_for_room(resources: dict[str, float], seconds: float, what: str) -> None:
    """Returns once some node takes a task of these resources: Ray itself waits without an end, and says nothing.

    Raises Incomplete after `seconds`, with what is missing.
    """
    probe = ray.remote(num_cpus=resources["CPU"], num_gpus=resources["GPU"])(_nothing).remote()
    started = time.monotonic()
    while not ray.wait([probe], timeout=max(0.0, min(SAY_S, started + seconds - time.monotonic())))[0]:
        text = f"{what} {what_is_missing(resources)}"
        waited = time.monotonic() - started
        if waited >= seconds:
            ray.cancel(probe, force=True)
            raise Incomplete(
                f"nothing has moved for {waited:.0f} s (no_progress_s): {text}; "
                "what is committed stays, and the same command goes on"
            )
        log.warning("nothing has moved for %.0f s: %s", waited, text)


def _nothing() -> None:
    pass


def _start(part: Part) -> pa.Buffer:
    return to_bytes(Payload.start(part))


def _pool(stage: Any, position: int, n_stages: int, job: Job, n_parts: int) -> Pool:
    """The pool of a stage: the first and the last are light, those between hold models."""
    settings = job.settings
    workers = min(settings.workers or default_workers(settings), n_parts)
    if position in (0, n_stages - 1):
        resources = {"CPU": READ_CPUS if position == 0 else COMMIT_CPUS}
        least, most = 1, min(n_parts, max(1, LIGHT_FOR_EACH * workers))
    else:
        resources = {"CPU": cpus_of(settings), "GPU": gpus_of(settings)}
        least, most = 0, workers
        job = replace(job, decode_threads=settings.decode_threads or max(1, int(resources["CPU"])))
    concurrency = 1 if position in (0, n_stages - 1) else FLIGHT
    actor: Any = ray.remote(  # type: ignore[call-overload]
        num_cpus=resources["CPU"],
        num_gpus=resources.get("GPU") or None,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=concurrency,
    )(type(stage.__name__, (Actor,), {}))  # Ray calls the process, its log lines and its panels by the class
    shared = ray.put((stage, job, versions()))
    return Pool(stage.name, lambda: actor.remote(shared), resources, least, most, FLIGHT)


def _result(task: Any) -> Any:
    """What a task gave; an Incomplete as the task raised it: Ray's own form of it has a traceback for a message."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as e:
        if isinstance(e.cause, Incomplete):
            raise e.cause from e
        raise


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def gpus_of(settings: BuildSettings) -> float:
    """GPUs an annotator reserves: where it asks for one, or will take one that the cluster has or may start (`auto`)."""
    device = settings.teacher.device
    wanted = device.startswith("cuda") or (device == "auto" and most_resources().get("GPU", 0) > 0)
    return settings.gpus_per_worker if wanted else 0.0


def cpus_of(settings: BuildSettings) -> float:
    """CPUs an annotator reserves: as set; else, with a GPU, its share of a GPU node's CPUs but one, for decoding."""
    if settings.cpus_per_worker or not (gpus := gpus_of(settings)):
        return settings.cpus_per_worker or COMPUTE_CPUS
    nodes = [
        node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) > 0
    ]
    return max(1.0, min((int((n.get("CPU", 1) - 1) * gpus / n["GPU"]) for n in nodes), default=1))


def default_workers(settings: BuildSettings) -> int:
    """One annotator a GPU of the cluster, else as many as its CPUs hold beside the light stages; nodes that an autoscaler
    may start count, where Ray tells of them."""
    there = most_resources()
    if gpus := gpus_of(settings):
        return max(1, int(there.get("GPU", 1) / gpus))
    return max(1, int((there.get("CPU", 1) - READ_CPUS - COMMIT_CPUS) / cpus_of(settings)))
