"""The Ray runner: the same stages as a Ray Data pipeline, on a cluster or on this machine. All of Ray is in here.

A row is a part: `{part: int64, payload: large_binary}`, the payload an Arrow IPC stream of the part's rows. Ray Data
splits and merges blocks as it likes; it cannot split a row, so no two writers ever meet on one shard.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from concept_pool.count import Counts
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset.plan import Part, Plan
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.stages import chain as stages
from pipeline.stages.chain import Payload

log = logging.getLogger("regionpairs")

#: CPUs a task of the light stages reserves. They differ, so that Ray Data does not fuse the stages into one.
READ_CPUS = 0.1
COMMIT_CPUS = 0.15
#: Parts whose captions one task parses; spaCy's start-up is paid once a task.
PARTS_A_TASK = 16


def connect() -> None:
    """Joins the cluster of this job (or of RAY_ADDRESS); without one, starts Ray on this machine."""
    if ray.is_initialized():
        return
    inside = os.environ.get("RAY_ADDRESS")
    ray.init(address=inside or "local", log_to_driver=True, logging_level=logging.WARNING)


class RayRunner:
    """Runs a build on the cluster that `connect` found. Actors receive paths and settings and load weights themselves."""

    def __init__(self) -> None:
        connect()

    def count(self, settings: BuildSettings, plan: Plan, parts: list[Part]) -> Counts:
        """Blocks of parts are counted as tasks and merged as a tree."""
        task = ray.remote(num_cpus=1)(vocabulary.count_parts)
        merge = ray.remote(num_cpus=0.1)(_merge)
        size = max(1, min(PARTS_A_TASK, -(-len(parts) // _cpus())))
        level = [task.remote(settings, plan, parts[i : i + size]) for i in range(0, len(parts), size)]
        while len(level) > 1:
            level = [merge.remote(*level[i : i + 8]) for i in range(0, len(level), 8)]
        return ray.get(level[0])

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        gpus = _gpus(settings)
        return ray.get(ray.remote(num_cpus=1, num_gpus=gpus)(function).remote(*arguments))

    def run(self, job: stages.Job, parts: list[Part]) -> Iterator[dict[str, Any]]:
        settings = job.settings
        context = DataContext.get_current()
        context.target_max_block_size = None
        context.enable_progress_bars = False  # a line a commit is enough, and reads well in a job's log
        context.issue_detectors_config.detectors = []
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its own log file keeps the rest
        context.max_errored_blocks = 0  # a lost part must end the job, not be skipped
        context.actor_init_retry_on_errors = True
        workers = min(settings.workers or default_workers(settings), len(parts))
        gpus = _gpus(settings)
        rows = ray.data.from_items([{"part": p.ordinal} for p in parts], override_num_blocks=len(parts))
        common: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
        dataset = (
            rows.map_batches(
                _Read,
                fn_constructor_args=(job,),
                num_cpus=READ_CPUS,
                compute=ActorPoolStrategy(size=1),
                **common,
            )
            .map_batches(
                _Annotate,
                fn_constructor_args=(job,),
                num_cpus=0 if gpus else settings.cpus_per_worker,
                num_gpus=gpus or None,
                compute=ActorPoolStrategy(
                    min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=2
                ),
                **common,
            )
            .map_batches(
                _Commit,
                fn_constructor_args=(job,),
                num_cpus=COMMIT_CPUS,
                compute=ActorPoolStrategy(size=1),
                **common,
            )
        )
        for item in dataset.iter_rows():
            yield json.loads(item["row"])


class _Read:
    def __init__(self, job: stages.Job):
        self._stage = stages.Read(job)
        self._parts = Plan.read(job.out).parts

    def __call__(self, batch: pa.Table) -> pa.Table:
        part = self._parts[batch.column("part")[0].as_py()]
        return _pack(self._stage(self._stage.start(part)), stages.Read.writes)


class _Annotate:
    def __init__(self, job: stages.Job):
        self._stage = stages.Annotate(job)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _pack(self._stage(_unpack(batch)), stages.Annotate.writes)


class _Commit:
    def __init__(self, job: stages.Job):
        self._stage = stages.Commit(job)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table({"row": [json.dumps(self._stage(_unpack(batch)))]})


def _pack(payload: Payload, schema: pa.Schema) -> pa.Table:
    """A payload as one Ray Data row. Arrow refuses rows that do not keep the stage's schema."""
    head = {
        "part": [payload.part.ordinal, payload.part.name, payload.part.n_samples],
        "rejects": payload.rejects.rows,
        "seconds": payload.seconds,
    }
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(payload.rows, schema).replace_schema_metadata({"head": json.dumps(head)})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    cell = pa.array([sink.getvalue().to_pybytes()], pa.large_binary())
    return pa.table({"part": pa.array([payload.part.ordinal], pa.int64()), "payload": cell})


def _unpack(batch: pa.Table) -> Payload:
    table = pa.ipc.open_stream(batch.column("payload")[0].as_buffer()).read_all()
    head = json.loads(table.schema.metadata[b"head"])
    part = Part(*head["part"])
    return Payload(part, table.to_pylist(), Rejects(part.name, head["rejects"]), head["seconds"])


def _merge(first: Counts, *others: Counts) -> Counts:
    for counts in others:
        first.merge(counts)
    return first


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _gpus(settings: BuildSettings) -> float:
    return settings.gpus_per_worker if settings.teacher.device.startswith(("cuda", "auto")) else 0.0


def default_workers(settings: BuildSettings) -> int:
    """One annotator a GPU of the cluster, else as many as its CPUs hold beside the light stages."""
    if gpus := _gpus(settings):
        return max(1, int(ray.cluster_resources().get("GPU", 1) / gpus))
    free = ray.cluster_resources().get("CPU", 1) - READ_CPUS - COMMIT_CPUS
    return max(1, int(free / settings.cpus_per_worker))
