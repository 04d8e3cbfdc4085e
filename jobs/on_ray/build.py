"""The Ray runner: the same stages as a Ray Data pipeline, on a cluster or on this machine.

A row is a part: `{payload: large_binary}`, an Arrow IPC stream of the part's table. Ray Data splits and merges blocks as
it likes; it cannot split a row, so no two writers ever meet on one shard.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from jobs.on_ray.cluster import check_here, connect, versions
from pipeline.dataset.plan import Part, Parts
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.stages.chain import Job, Payload, advance

log = logging.getLogger("regionpairs")

#: CPUs an actor of the light stages reserves. Neighbouring stages differ, so that Ray Data does not fuse them into one.
READ_CPUS, COMMIT_CPUS = 0.1, 0.15
#: Parts in one execution of the pipeline: bounds what the driver holds of them.
WINDOW = 4096
#: Tasks of `map` in flight, for each CPU.
TASKS_A_CPU = 3
_COMMON: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}


class RayRunner:
    """Runs a build on the cluster that `connect` found. Actors receive paths and settings and load weights themselves."""

    def __init__(self) -> None:
        connect()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Items as tasks of one CPU, results in order, a bounded number in flight."""
        task = ray.remote(num_cpus=1, max_retries=3)(_apply)
        shared = ray.put(function)
        flight: deque[Any] = deque()
        for item in items:
            flight.append(task.remote(shared, item))
            if len(flight) >= TASKS_A_CPU * _cpus():
                yield ray.get(flight.popleft())
        while flight:
            yield ray.get(flight.popleft())

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        gpus = _gpus(settings)
        return ray.get(ray.remote(num_cpus=1, num_gpus=gpus)(function).remote(*arguments))

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        _configure()
        for start in range(0, len(parts), WINDOW):
            yield from self._run(stages, job, parts[start : start + WINDOW])

    def _run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        rows = [{"payload": to_bytes(Payload.start(part))} for part in parts]
        dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        for position, stage in enumerate(stages):
            dataset = dataset.map_batches(
                _Actor,
                fn_constructor_args=(stage, job, versions()),
                **_resources(job.settings, position, len(stages), len(parts)),
                **_COMMON,
            )
        for item in dataset.iter_rows():
            yield from_bytes(item["payload"])


def _configure() -> None:
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.enable_progress_bars = False  # a line a commit is enough, and reads well in a job's log
    context.issue_detectors_config.detectors = []
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its own log file keeps the rest
    context.max_errored_blocks = 0  # a lost part must end the job, not be skipped
    context.actor_init_retry_on_errors = True


def _resources(settings: BuildSettings, position: int, n_stages: int, n_parts: int) -> dict[str, Any]:
    """What Ray reserves for a stage: the first and the last are light, those between hold models."""
    if position == 0 or position == n_stages - 1:
        cpus = READ_CPUS if position == 0 else COMMIT_CPUS
        most = max(1, min(n_parts, _cpus() // 4))
        return {"num_cpus": cpus, "compute": ActorPoolStrategy(min_size=1, max_size=most)}
    workers = min(settings.workers or default_workers(settings), n_parts)
    gpus = _gpus(settings)
    pool = ActorPoolStrategy(
        min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
    )
    return {"num_cpus": 0 if gpus else settings.cpus_per_worker, "num_gpus": gpus or None, "compute": pool}


class _Actor:
    """A stage on a worker."""

    def __init__(self, stage: Any, job: Job, driver: dict[str, str | None]):
        check_here(driver)  # its node may have joined after the driver looked
        self._stage = stage(job)

    def __call__(self, batch: pa.Table) -> pa.Table:
        payload = advance(self._stage, from_bytes(batch.column("payload")[0].as_buffer()))
        return pa.table({"payload": pa.array([to_bytes(payload)], pa.large_binary())})


def to_bytes(payload: Payload) -> bytes:
    """A payload as an Arrow IPC stream; what is no table of it lies in the schema's metadata."""
    head = {
        "part": vars(payload.part),
        "rejects": payload.rejects.rows,
        "seconds": payload.seconds,
        "error": payload.error,
    }
    table = payload.table.replace_schema_metadata({"head": json.dumps(head)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: Any) -> Payload:
    """What `to_bytes` wrote."""
    table = pa.ipc.open_stream(data).read_all()
    head = json.loads(table.schema.metadata[b"head"])
    part = Part(**head["part"])
    return Payload(
        part,
        table.replace_schema_metadata(None),
        Rejects(part.name, head["rejects"]),
        head["seconds"],
        head["error"],
    )


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _gpus(settings: BuildSettings) -> float:
    """GPUs an annotator reserves: where it asks for one, or will take one that the cluster has (`auto`)."""
    device = settings.teacher.device
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    return settings.gpus_per_worker if device.startswith("cuda") or (device == "auto" and has_gpus) else 0.0


def default_workers(settings: BuildSettings) -> int:
    """One annotator a GPU of the cluster, else as many as its CPUs hold beside the light stages."""
    if gpus := _gpus(settings):
        return max(1, int(ray.cluster_resources().get("GPU", 1) / gpus))
    free = ray.cluster_resources().get("CPU", 1) - READ_CPUS - COMMIT_CPUS
    return max(1, int(free / settings.cpus_per_worker))
