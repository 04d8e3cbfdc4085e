"""How work is run: what a runner is, and what builds and relabellings let it do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow.compute as pc

from pipeline.dataset import concepts
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts, Plan
from pipeline.progress import Incomplete, Progress, Stages
from pipeline.settings import BuildSettings

if TYPE_CHECKING:
    from pipeline.stages.chain import Job, Payload

log = logging.getLogger("regionpairs")

#: What a user does about a failure, where nothing more is known.
GOES_ON = "the same command goes on"
#: Parts that may fail before the run is stopped: one broken disk sector is not a broken program.
MAX_FAILED = 10


class Runner(Protocol):
    """How work is run. A runner decides where; never what."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False) -> Iterator[Any]:
        """`function` of every item, results in order, some at once. slow: an item takes seconds of a CPU."""
        ...

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        """One call where the models run."""
        ...

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        """Every part through the stages (`chain.advance`); yields payloads as they are done, in any order."""
        ...

    def stages(self) -> Stages:
        """How the stages of the run in progress stand, by the name of the stage."""
        ...

    def stored_bytes(self) -> int:
        """What parts on their way take of memory that workers share (Ray's object store) now."""
        ...


def embed(settings: BuildSettings, layout: Layout) -> dict[str, Any]:
    """Embeds the saved pool with the teacher's text encoder; runs where the models run. Returns the pool's record."""
    import torch

    from concept_pool.embed import embed_pool
    from concept_pool.prompts import load_templates, templates_hash
    from pipeline import teachers

    torch.set_num_threads(settings.threads)
    pool = concepts.load_pool(layout, checked=False)  # its record comes last
    templates = load_templates(settings.pool.templates)
    teacher = teachers.load(settings.teacher)
    matrix = embed_pool(pool.names, templates, teacher.encode_text, settings.pool.ensemble)
    return concepts.write_embeddings(layout, pool, torch.as_tensor(matrix), templates_hash(templates))


def run_parts(
    stages: Sequence[Any], settings: BuildSettings, plan: Plan, todo: Parts, job: Job, runner: Runner
) -> dict[str, Any] | None:
    """Runs the parts; returns how the run went (docs/format.md, summary.json), None where there was nothing to do.

    Stops early once the reject budget cannot be kept any more or too many parts failed. Raises Incomplete at the end if
    any part failed: everything else is committed, and the same command goes on, once what it needs is mended.
    """
    from pipeline.stages.chain import check_chain

    check_chain(stages)
    if not len(todo):
        return None
    n_todo = pc.sum(todo.table.column("n_samples")).as_py()  # no object a part
    progress = Progress(settings, plan.n_samples, len(todo), runner.stages, n_todo, runner.stored_bytes)
    failed: list[str] = []
    advice = GOES_ON
    for payload in runner.run(stages, job, todo):
        if payload.error:
            failed.append(f"part {payload.part.name}: {payload.error}")
            advice = payload.advice or advice
            log.error("%s", failed[-1])
            if len(failed) > MAX_FAILED:
                break
        else:
            progress.add(payload.row, payload.rejects.rows, payload.seconds)
    if failed:
        raise Incomplete(
            f"{len(failed)} of {len(todo)} parts failed and are not committed; {advice}. {failed[0]}"
        )
    return progress.result(settings.runtime)
