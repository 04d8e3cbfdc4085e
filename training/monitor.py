"""Watching a run: a progress bar, metrics as JSON lines, TensorBoard, and where the time goes."""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from pipeline.standing import Standing, tell

T = TypeVar("T")


class Stopwatch:
    """Wall time and the share of it that was spent waiting for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start = time.perf_counter()
        self.waited_s = 0.0

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self._start

    def waiting(self, items: Iterator[T]) -> Generator[T, None, None]:
        """Passes items on and counts the time that each took to come."""
        while True:
            begun = time.perf_counter()
            item = next(items, None)
            self.waited_s += time.perf_counter() - begun
            if item is None:
                return
            yield item


class Monitor:
    """Writes `metrics.jsonl` (and `keys.jsonl`, `tensorboard/`) below a run's folder; one rank has one.

    A resumed run first drops the lines after the step it resumes from: each step has one line, however often
    the run was killed.
    """

    def __init__(self, out: Path, first_step: int, n_steps: int, tensorboard: bool, progress: bool):
        out.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "keys.jsonl"):
            _keep_until(out / name, first_step)
        self._metrics = (out / "metrics.jsonl").open("a", encoding="utf-8")
        self._keys = (out / "keys.jsonl").open("a", encoding="utf-8")
        self._bar = tqdm(
            total=n_steps, initial=first_step, unit="step", disable=not progress, dynamic_ncols=True
        )
        self._step, self._n_steps, self._shown = first_step, n_steps, ""
        self._say()
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)

    def advance(self) -> None:
        """One step is done."""
        self._step += 1
        self._bar.update()
        self._say()

    def keys(self, step: int, keys: list[str]) -> None:
        """The samples of a step."""
        _append(self._keys, {"step": step, "keys": keys})

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Numbers of a step, to all three places. One that is not finite is null in metrics.jsonl, since JSON has none."""
        finite = {k: v for k, v in values.items() if math.isfinite(v)}
        _append(self._metrics, {"step": step, **{k: finite.get(k) for k in values}})
        for name, value in finite.items():
            if self._board is not None:
                self._board.add_scalar(name, value, step)
        shown = {k: f"{values[k]:.3g}" for k in ("loss", "images_per_s", "data_wait_share") if k in values}
        if shown:
            self._shown = ", ".join(f"{k} {v}" for k, v in shown.items())
            self._bar.set_postfix(shown, refresh=False)

    def _say(self) -> None:
        """How far it is, to who listens, where there is no bar."""
        if self._bar.disable:
            tell(Standing("training", "steps", self._step, self._n_steps, current=self._shown))

    def close(self) -> None:
        for closable in (self._metrics, self._keys, self._bar, self._board):
            if closable is not None:
                closable.close()


def peak_rss_gib() -> float:
    """The most memory this process ever had, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent had when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _append(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def _keep_until(path: Path, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
