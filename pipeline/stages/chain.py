"""The second pass as an explicit list of stages: read > annotate > commit.

A stage is a callable class: it gets a `Payload` and gives one, and it says what it reads and writes. It is built from
a `Job` (paths and settings) and loads what it needs itself, so that it can be built on any machine. Both runners run
this one list.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

import storage
from concept_pool.pool import ConceptPool
from pipeline import sources
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset import records, shards
from pipeline.dataset.plan import Part, Plan
from pipeline.images import BadSample
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.stages.annotate import Annotator


@dataclass(frozen=True)
class Job:
    """What every stage is built from. `identity`: the hashes of `fingerprint` and `pool`."""

    settings: BuildSettings
    out: str
    identity: dict[str, str]


@dataclass
class Payload:
    """One part on its way: its rows, the reject rows so far, and the seconds spent in each stage."""

    part: Part
    rows: list[dict[str, Any]]
    rejects: Rejects
    seconds: dict[str, float] = field(default_factory=dict)


class Stage(Protocol):
    reads: pa.Schema
    writes: pa.Schema

    def __init__(self, job: Job): ...

    def __call__(self, payload: Payload) -> Payload: ...


class Read:
    """Index rows -> samples with their image bytes."""

    reads = records.INDEX
    writes = records.SAMPLES

    def __init__(self, job: Job):
        self._plan = Plan.read(job.out)
        self._source = sources.load(job.settings.source)
        self._pool = ConceptPool.load(storage.join(job.out, vocabulary.FOLDER))

    def start(self, part: Part) -> Payload:
        """The payload of a part as the plan lists it."""
        names = vocabulary.mentions(self._plan.out, part)
        rows = self._plan.rows(part).to_pylist()
        return Payload(
            part, [{**r, "mentions": m} for r, m in zip(rows, names, strict=True)], Rejects(part.name)
        )

    def __call__(self, payload: Payload) -> Payload:
        started = time.perf_counter()
        rows = payload.rejects.guard("read", self._sample, payload.rows, lambda r: r["source_key"])
        return Payload(
            payload.part, rows, payload.rejects, {**payload.seconds, "read": time.perf_counter() - started}
        )

    def _sample(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["problem"]:
            reason, _, detail = row["problem"].partition(": ")
            raise BadSample(reason, detail)
        image = self._source.read(row)
        return {
            "key": records.sample_key(row["source_key"], image),
            "source_key": row["source_key"],
            "source": row["location"].rsplit("/", 1)[-1],
            "image": image,
            "captions": row["captions"],
            "mentioned": self._pool.ids_of(row["mentions"]),
        }


class Annotate:
    """Samples -> samples with regions and labels. The only stage that holds models."""

    reads = records.SAMPLES
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        self._annotator = Annotator(
            job.settings, vocabulary.load_vocabulary(job.out), job.identity["fingerprint"]
        )

    def __call__(self, payload: Payload) -> Payload:
        started = time.perf_counter()
        rows = self._annotator(payload.rows, payload.rejects)
        return Payload(
            payload.part, rows, payload.rejects, {**payload.seconds, "compute": time.perf_counter() - started}
        )


class Commit:
    """Annotated samples -> a shard and its manifest row."""

    reads = records.ANNOTATED
    writes = shards.MANIFEST

    def __init__(self, job: Job):
        self._job = job

    def __call__(self, payload: Payload) -> dict[str, Any]:
        """The manifest row, with `rejects` and `seconds` besides."""
        started = time.perf_counter()
        return shards.commit(
            self._job.out,
            payload.part.name,
            payload.part.n_samples,
            payload.rows,
            payload.rejects.rows,
            self._job.identity,
            lambda: {**payload.seconds, "write": time.perf_counter() - started},
        )


class BrokenChain(ValueError):
    """A stage reads what the stage before it does not write."""


def check_chain(stages: list[Any]) -> None:
    """Raises BrokenChain, naming the field, unless every stage reads just what the stage before it writes."""
    for before, after in itertools.pairwise(stages):
        for f in after.reads:
            if f.name not in before.writes.names:
                raise BrokenChain(f"{after.__name__} reads {f.name}, which {before.__name__} does not write")
            if before.writes.field(f.name) != f:
                raise BrokenChain(
                    f"{after.__name__} reads {f}, and {before.__name__} writes {before.writes.field(f.name)}"
                )


STAGES = [Read, Annotate, Commit]
