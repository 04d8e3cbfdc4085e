"""How far a run has come, told to whoever listens: a log by default, the terminal's live view where a job shows one."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

log = logging.getLogger("regionpairs")

#: Seconds between two lines of a plain log.
EVERY_S = 10.0


@dataclass(frozen=True)
class Standing:
    """How far a step of a run has come.

    step: what is done (index, text embeddings, parts). done, total: of what it counts (unit: units, parts); total 0 where
    it counts nothing. n_samples: images so far; of_samples: images in all, 0 where that is not known yet. current: what was
    done last. stages: what is known of each stage (`Progress.stages`). stored_bytes: in an object store, 0 without one.
    """

    step: str
    unit: str = ""
    done: int = 0
    total: int = 0
    n_samples: int = 0
    of_samples: int = 0
    n_regions: int = 0
    n_pairs: int = 0
    n_rejected: int = 0
    current: str = ""
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    stored_bytes: int = 0

    @property
    def finished(self) -> bool:
        return bool(self.total) and self.done >= self.total


class Pace:
    """Rates over the last minute or so of a step, and what is left at that rate."""

    #: Seconds that a rate looks back.
    WINDOW_S = 60.0

    def __init__(self) -> None:
        self._step = ""
        self._seen: list[tuple[float, Standing]] = []
        self._now = 0.0

    def add(self, standing: Standing, now: float) -> None:
        """now: seconds of a clock that never goes back."""
        if standing.step != self._step:
            self._step, self._seen = standing.step, []
        self._seen.append((now, standing))
        self._now = now
        while len(self._seen) > 2 and now - self._seen[1][0] > self.WINDOW_S:
            del self._seen[0]

    def wait(self, now: float) -> None:
        """Nothing has come until `now`: from a while on, that is a lower rate and a longer time left."""
        self._now = now

    def _rate(self, of: Callable[[Standing], int]) -> float:
        if len(self._seen) < 2:
            return 0.0
        (start, first), (end, last) = self._seen[0], self._seen[-1]
        silent = self._now - end
        usual = (end - start) / (len(self._seen) - 1)
        end = self._now if silent > usual else end
        return max(0, of(last) - of(first)) / max(end - start, 1e-6)

    @property
    def images_per_s(self) -> float:
        return self._rate(lambda s: s.n_samples)

    @property
    def regions_per_s(self) -> float:
        return self._rate(lambda s: s.n_regions)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None where nothing says so yet."""
        rate = self._rate(lambda s: s.done)
        last = self._seen[-1][1] if self._seen else None
        return (last.total - last.done) / rate if last and last.total and rate > 0 else None


def duration(seconds: float) -> str:
    """Seconds for people: 45 s, 3:20 min, 2:05 h, 3.4 days."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 2 * 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{seconds / 86400:.1f} days"


def line(standing: Standing, pace: Pace) -> str:
    """A standing as one line."""
    words = [standing.step]
    if standing.total:
        share = 100 * standing.done / standing.total
        unit = f" {standing.unit}" if standing.unit != standing.step else ""
        words.append(f"{standing.done}/{standing.total}{unit} ({share:.0f} %)")
    text = " ".join(words)
    more = []
    if standing.n_samples:
        of = f"/{standing.of_samples}" if standing.of_samples else ""
        more.append(f"{standing.n_samples}{of} images")
    if standing.n_regions:
        more.append(f"{standing.n_regions} regions, {standing.n_pairs} pairs")
    if standing.n_rejected:
        more.append(f"{standing.n_rejected} rejected")
    if pace.images_per_s:
        more.append(f"{pace.images_per_s:.1f} images/s")
    if pace.left_s is not None and not standing.finished:
        more.append(f"{duration(pace.left_s)} left")
    busy = [
        f"{name} {100 * stage['busy_share']:.0f} %"
        for name, stage in standing.stages.items()
        if "busy_share" in stage
    ]
    if busy and not standing.finished:
        more.append(f"busy: {', '.join(busy)}")
    waiting = [
        f"{name} {stage['waiting']:g}" for name, stage in standing.stages.items() if stage.get("waiting")
    ]
    if waiting and not standing.finished:
        more.append(f"waiting: {', '.join(waiting)}")
    if standing.stored_bytes and not standing.finished:
        more.append(f"object store: {standing.stored_bytes / 2**20:.0f} MiB")
    if standing.current:
        more.append(standing.current)
    return f"{text}: {', '.join(more)}" if more else text


class PlainLog:
    """A line at most every `every_s` seconds, and one for the end of each step that counts something."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic):
        self._every_s, self._clock = every_s, clock
        self._pace = Pace()
        self._latest: Standing | None = None
        self._said = self._since = clock()

    def __call__(self, standing: Standing) -> None:
        now = self._clock()
        if self._latest is None or standing.step != self._latest.step:
            self._since = now
        self._latest = standing
        self._pace.add(standing, now)
        if standing.finished or now - self._said >= self._every_s:
            self._say(now)

    def tick(self) -> None:
        """Says the latest standing again where nothing has come for long: a silent program looks like a dead one."""
        now = self._clock()
        if self._latest is None or self._latest.finished or now - self._said < self._every_s:
            return
        self._pace.wait(now)
        self._say(now, f"; {duration(now - self._since)} so far")

    def _say(self, now: float, more: str = "") -> None:
        assert self._latest is not None
        self._said = now
        log.info("%s%s", line(self._latest, self._pace), more)


Listener = Callable[[Standing], None]
_listener: Listener | None = None


def tell(standing: Standing) -> None:
    """Says how far the run has come."""
    global _listener
    if _listener is None:
        _listener = PlainLog()
    _listener(standing)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within it, `tell` reaches `listener` and nobody else."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
