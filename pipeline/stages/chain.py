"""What a stage is, and how a part goes from one to the next. Both runners move parts by `advance`, and by nothing else."""

from __future__ import annotations

import itertools
import logging
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from pipeline.dataset import records
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Part
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings

log = logging.getLogger("regionpairs")

#: Where a stage notes, in its payload's seconds, how long it waited for its turn: that is no time of the stage.
WAITED = "waited"


@dataclass(frozen=True)
class Job:
    """What every stage is built from, on any machine.

    out: the dataset to write. identity: the hashes of `fingerprint` and `pool`. claim: the token of the claim under
    which it is written. source_root: where the input's locations begin. dataset: the dataset that is relabelled, None in a
    build. options: of a stage that is not in `BUILD` or `RELABEL`.

    What a runner fills in for the process where the stages live: at_once: parts whose models may run at the same time
    in it; decode_threads: that decode images for each of them.
    """

    settings: BuildSettings
    out: str
    identity: dict[str, str]
    claim: str = ""
    source_root: str | None = None
    dataset: str | None = None
    options: Any = None
    at_once: int = 1
    decode_threads: int = 1

    @property
    def layout(self) -> Layout:
        return Layout(self.out)


@dataclass(frozen=True)
class Payload:
    """One part on its way: a table that meets the last stage's `writes`, the reject rows so far, and the seconds spent in
    each stage. error: why the part failed; then the stages that follow leave it alone. advice: what to do about it, where
    the same command alone would fail again (an exception's own `advice`)."""

    part: Part
    table: pa.Table
    rejects: Rejects
    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""
    advice: str = ""

    @staticmethod
    def start(part: Part) -> Payload:
        """What the first stage gets: the part's own row of the plan."""
        return Payload(part, part.as_table(), Rejects(part.name))

    @property
    def row(self) -> dict[str, Any]:
        """The manifest row, behind the last stage."""
        return self.table.to_pylist()[0]


class Stage(Protocol):
    """A callable class. `name` is the key of its seconds; `reads` and `writes` are the schemas of its tables."""

    name: str
    reads: pa.Schema
    writes: pa.Schema

    def __init__(self, job: Job): ...

    def __call__(self, payload: Payload) -> pa.Table:
        """The payload's table, one stage further. Bad samples go to `payload.rejects`; what it raises fails the part."""
        ...


class BrokenChain(ValueError):
    """A stage reads what the stage before it does not write, or a table is not what its stage promised."""


def check_chain(stages: Sequence[Any]) -> None:
    """Raises BrokenChain, naming the field, unless every stage reads just what the stage before it writes."""
    if stages[0].reads != records.PARTS:
        raise BrokenChain(f"{stages[0].__name__} stands first and does not read the plan's parts")
    if stages[-1].writes != records.MANIFEST:
        raise BrokenChain(f"{stages[-1].__name__} stands last and does not write manifest rows")
    for before, after in itertools.pairwise(stages):
        for f in after.reads:
            if f.name not in before.writes.names:
                raise BrokenChain(f"{after.__name__} reads {f.name}, which {before.__name__} does not write")
            if before.writes.field(f.name) != f:
                raise BrokenChain(
                    f"{after.__name__} reads {f}, and {before.__name__} writes {before.writes.field(f.name)}"
                )


def advance(stage: Stage, payload: Payload) -> Payload:
    """The payload behind a stage. An exception fails the part and nothing else: it is in `error`, and in the log."""
    if payload.error:
        return payload
    started = time.perf_counter()
    try:
        if payload.table.schema != stage.reads:
            raise BrokenChain(f"{stage.name} was given {payload.table.schema.names}")
        table = stage(payload)
        if table.schema != stage.writes:
            raise BrokenChain(f"{stage.name} gave {table.schema.names}")
    except Exception as e:  # noqa: BLE001 - a part's failure is reported, retried by the next run, and never committed
        note(e, f"stage {stage.name}, part {payload.part.name}")
        log.error("%s", "".join(traceback.format_exception(e)).rstrip())
        advice = getattr(e, "advice", "")
        return replace(payload, table=payload.table.slice(0, 0), error=in_one_line(e), advice=advice)
    spent = time.perf_counter() - started - payload.seconds.pop(WAITED, 0.0)
    return replace(payload, table=table, seconds={**payload.seconds, stage.name: spent})


def fold(stages: Iterable[Stage], part: Part) -> Payload:
    """A part through all stages."""
    payload = Payload.start(part)
    for stage in stages:
        payload = advance(stage, payload)
    return payload


def note(error: BaseException, text: str) -> None:
    """Says where an exception happened, without wrapping it."""
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(text)


def in_one_line(error: BaseException, length: int = 500) -> str:
    """An exception for a log line: its type, its message and its notes."""
    notes = "; ".join(getattr(error, "__notes__", []))
    text = " ".join(f"{type(error).__name__}: {error}".split())[:length]
    return f"{text} ({notes})" if notes else text
