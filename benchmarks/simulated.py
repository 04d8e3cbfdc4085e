"""A runner whose workers only answer: what a driver holds, without files, models and hours.

Every answer has the size of a true one: index records, checks and sums of blocks, payloads with a manifest row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.null_models import NullTeacher
from concept_pool.count import Counts
from pipeline import build as builds
from pipeline import healing, planning, teachers
from pipeline.dataset import blocks
from pipeline.dataset.plan import Parts
from pipeline.dataset.units import UnitRecord
from pipeline.progress import Stages
from pipeline.settings import BuildSettings
from pipeline.stages.chain import Job, Payload


def use_simulated_pool() -> None:
    """A concept pool of two names, so that no caption is parsed."""
    counts = Counts()
    for _ in range(2):
        counts.add_image([("a red ball", ("ball",)), ("a boat", ("boat",))], frozenset())
    planning.total_counts = lambda layout, plan, run: counts
    teachers.load = lambda settings: NullTeacher()
    assert builds.planning is planning


class SimulatedRunner:
    """Answers as a cluster would, one call at a time."""

    _built = False

    def map(self, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False) -> Iterator[Any]:
        assert isinstance(function, partial)
        answers: dict[Any, Callable[[Any], Any]] = {
            planning._index_one: _indexed,
            blocks.check: lambda block: blocks.Checked(block.start, [False] * len(block.names), []),
            blocks.add_up: partial(_added_up, function.args),
        }
        answer = answers.get(function.func)
        if answer is None:
            assert function.func in (healing._is_damaged, planning._read_record), function.func
            items = list(items)[:0]
            answer = function
        return map(answer, items)

    def call(self, settings: BuildSettings, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        table = blocks.rows_table([_row("", 1, job.identity)])
        for part in parts:
            yield replace(
                Payload.start(part), table=table, seconds={"read": 0.01, "compute": 0.1, "write": 0.01}
            )

    def stages(self) -> Stages:
        return {}

    def stored_bytes(self) -> int:
        return 0


def _indexed(work: Any) -> UnitRecord:
    number, unit, _ = work
    n = unit.stop - unit.start
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    parts = [[hashlib.sha256(f"{number} {i}".encode()).hexdigest()[:12], 1, 1] for i in range(n)]
    return UnitRecord(number, n, n, sha256, sha256, parts)


def _row(part: str, n: int, identity: dict[str, str]) -> dict[str, Any]:
    sha256 = hashlib.sha256(part.encode()).hexdigest()
    return {
        "shard": f"{part}.tar", "part": part, "n_read": n, "n_samples": n, "n_rejected": 0, "n_regions": 20 * n,
        "n_pairs": 5 * n, "n_bytes": 10240, "sha256": sha256, "index_sha256": sha256, **identity, "keep_rate": 0.25,
        "concept_ids": [0, 1], "concept_counts": [3, 2],
    }  # fmt: skip


def _added_up(arguments: Any, block: blocks.Block) -> blocks.Sums:
    _, identity = arguments
    rows = [_row(name, n, identity) for name, n in zip(block.names, block.n_samples, strict=True)]
    totals: Counter[str] = Counter()
    for row in rows:
        totals.update({name: row[name] for name in blocks.TOTALS})
    return blocks.Sums("", len(rows), totals, Counter(), Counter(), blocks.rows_table(rows))
