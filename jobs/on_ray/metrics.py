"""What a build on Ray tells Prometheus, under our own names, through Ray's metrics."""

from __future__ import annotations

import time
from collections import Counter as Sums
from collections.abc import Callable

from ray.util.metrics import Counter, Gauge

from pipeline.progress import Stages
from pipeline.stages.chain import Payload

#: Seconds between two updates of the gauges.
EVERY_S = 2.0


class Metrics:
    """Counters and gauges of one run; every series of a stage has the tag `stage`.

    Rates per stage are those since the last update of the gauges. clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = Counter("regionpairs_parts", "parts that left the last stage", ("outcome",))
        self._images = Counter("regionpairs_images", "images, by what became of them", ("outcome",))
        self._seconds = Counter("regionpairs_stage_seconds", "seconds that a stage worked", ("stage",))
        self._stage_images = Counter(
            "regionpairs_stage_images", "images that went through a stage", ("stage",)
        )
        self._workers = Gauge("regionpairs_workers", "workers of a stage that are ready", ("stage",))
        self._waiting = Gauge("regionpairs_waiting_parts", "parts that wait for a stage", ("stage",))
        self._rate = Gauge("regionpairs_images_per_s", "images a second through a stage", ("stage",))
        self._busy = Gauge(
            "regionpairs_busy_share", "share of its workers' time that a stage worked", ("stage",)
        )
        self._stored = Gauge("regionpairs_object_store_bytes", "bytes in the object stores of all nodes")
        self._clock = clock
        self._shown = clock()
        self._worked: Sums[str] = Sums()
        self._went: Sums[str] = Sums()

    def add(self, payload: Payload) -> None:
        """A part that left the last stage."""
        self._parts.inc(1, {"outcome": "failed" if payload.error else "committed"})
        if payload.error:
            return
        for outcome, key in (("written", "n_samples"), ("rejected", "n_rejected")):
            if n := payload.row[key]:
                self._images.inc(n, {"outcome": outcome})
        n_read = payload.row["n_read"]
        for stage, seconds in payload.seconds.items():
            if seconds > 0 and n_read:
                self._seconds.inc(seconds, {"stage": stage})
                self._stage_images.inc(n_read, {"stage": stage})
                self._worked[stage] += seconds
                self._went[stage] += n_read

    def show(self, stages: Stages, stored_bytes: Callable[[], int]) -> None:
        """How the stages stand now, every `EVERY_S` seconds."""
        passed = self._clock() - self._shown
        if passed < EVERY_S:
            return
        self._shown += passed
        self._stored.set(stored_bytes())
        for name, stage in stages.items():
            tags = {"stage": name}
            self._workers.set(stage["workers"], tags)
            self._waiting.set(stage["waiting"], tags)
            self._rate.set(self._went.pop(name, 0) / passed, tags)
            self._busy.set(min(1.0, self._worked.pop(name, 0.0) / (passed * max(1, stage["workers"]))), tags)
