"""How far a job has come: a live view in a terminal, a line every ten seconds anywhere else."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from jobs.printable import printable
from pipeline.standing import Pace, PlainLog, Standing, duration, listening

if TYPE_CHECKING:
    from rich.console import Console

#: Seconds between two looks of the plain log at the clock, and two pictures of the live view.
TICK_S, PICTURE_S = 1.0, 0.25


@contextlib.contextmanager
def watched(stream: TextIO | None = None) -> Iterator[None]:
    """Within it, runs say on `stream` (stdout) how far they have come."""
    stream = stream or sys.stdout
    with _live(stream) if is_terminal(stream) else _plain():
        yield


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Within it, a command whose stdout is for its answer says on stderr how far it has come, a line every ten seconds."""
    log = logging.getLogger("regionpairs")
    handler, level = logging.StreamHandler(sys.stderr), log.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with _plain():
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def is_terminal(stream: TextIO) -> bool:
    """Whether a view that moves the cursor is of use there: not in a job's log, nor where TERM is dumb."""
    isatty = getattr(stream, "isatty", lambda: False)
    return bool(isatty()) and os.environ.get("TERM", "dumb") != "dumb"


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """The log, and a thread that speaks up where the run itself is silent."""
    listener = PlainLog()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(TICK_S):
            listener.tick()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        with listening(listener):
            yield
    finally:
        over.set()
        thread.join()


class View:
    """What the live view shows: the step with its bar, rates, rejects and time left, and a row a stage."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._latest: Standing | None = None
        self._since = time.monotonic()

    def __call__(self, standing: Standing) -> None:
        now = time.monotonic()
        if self._latest is None or standing.step != self._latest.step:
            self._since = now
        self._pace.add(standing, now)
        self._latest = standing

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        latest = self._latest
        if latest is None:
            return Text("")
        return Group(
            self._bar(latest), self._counts(latest), *([self._stages(latest)] if latest.stages else [])
        )

    def _bar(self, latest: Standing) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self._pace.wait(time.monotonic())
        row = Table.grid(padding=(0, 1))
        spent = f"{duration(time.monotonic() - self._since)}"
        left = "" if self._pace.left_s is None or latest.finished else f", {duration(self._pace.left_s)} left"
        bar = ProgressBar(total=latest.total or None, completed=latest.done, width=30, pulse=not latest.total)
        done = f"{latest.done}/{latest.total} {latest.unit}" if latest.total else ""
        row.add_row(Text(latest.step, style="bold"), bar, Text(done), Text(spent + left, style="dim"))
        return row

    def _counts(self, latest: Standing) -> Any:
        from rich.text import Text

        of = f" of {latest.of_samples}" if latest.of_samples else ""
        words = [f"{latest.n_samples}{of} images"] if latest.n_samples else []
        if self._pace.images_per_s:
            words.append(f"{self._pace.images_per_s:.1f} images/s")
        if latest.n_regions:
            words += [f"{self._pace.regions_per_s:.0f} regions/s", f"{latest.n_pairs} pairs"]
        text = Text("  " + ", ".join(words))
        if latest.n_rejected:
            text.append(f", {latest.n_rejected} rejected", style="yellow")
        if latest.current:
            text.append(f"  {latest.current}", style="dim")
        return text

    def _stages(self, latest: Standing) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2), header_style="dim")
        columns = {"images/s of one": "images_per_s_of_one", "workers": "workers", "waiting": "waiting"}
        for name in ("stage", *columns, "busy"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for name, stage in latest.stages.items():
            cells = [f"{stage[key]:g}" if key in stage else "" for key in columns.values()]
            busy = f"{100 * stage['busy_share']:.0f} %" if "busy_share" in stage else ""
            table.add_row(*(Text(cell) for cell in (name, *cells, busy)))
        return table


@contextlib.contextmanager
def _live(stream: TextIO) -> Iterator[None]:
    """The live view at the bottom of the terminal; the log goes on above it."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    view = View()
    live = Live(view, console=console, refresh_per_second=1 / PICTURE_S, transient=True)
    with live, _above(console), listening(view):
        yield


@contextlib.contextmanager
def _above(console: Console) -> Iterator[None]:
    """Lets the log's handlers write above the view, and not into it."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    before = [h.setStream(_Above(console)) for h in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)


class _Above:
    """A text stream whose lines are printed above the live view; what a terminal would take for a command is escaped."""

    def __init__(self, console: Console):
        self._console = console

    def write(self, text: str) -> int:
        self._console.print(
            printable(text), end="", markup=False, highlight=False, emoji=False, soft_wrap=True
        )
        return len(text)

    def flush(self) -> None:
        """Every write is flushed."""
