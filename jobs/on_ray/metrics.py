"""What a build on Ray tells Prometheus, under our own names, through Ray's metrics."""

from __future__ import annotations

import time

from ray.util.metrics import Counter, Gauge

from pipeline.progress import Stages
from pipeline.stages.chain import Payload

#: Seconds between two updates of the gauges.
EVERY_S = 2.0


class Metrics:
    """Counters and gauges of one run; every series of a stage has the tag `stage`."""

    def __init__(self) -> None:
        self._parts = Counter("regionpairs_parts", "parts that left the last stage", ("outcome",))
        self._images = Counter("regionpairs_images", "images, by what became of them", ("outcome",))
        self._seconds = Counter("regionpairs_stage_seconds", "seconds that a stage worked", ("stage",))
        self._workers = Gauge("regionpairs_workers", "workers of a stage that are ready", ("stage",))
        self._waiting = Gauge("regionpairs_waiting_parts", "parts that wait for a stage", ("stage",))
        self._shown = 0.0

    def add(self, payload: Payload) -> None:
        """A part that left the last stage."""
        self._parts.inc(1, {"outcome": "failed" if payload.error else "committed"})
        if payload.error:
            return
        for outcome, key in (("written", "n_samples"), ("rejected", "n_rejected")):
            if n := payload.row[key]:
                self._images.inc(n, {"outcome": outcome})
        for stage, seconds in payload.seconds.items():
            if seconds > 0:
                self._seconds.inc(seconds, {"stage": stage})

    def show(self, stages: Stages) -> None:
        """How the stages stand now."""
        if time.monotonic() - self._shown < EVERY_S:
            return
        self._shown = time.monotonic()
        for name, stage in stages.items():
            self._workers.set(stage["workers"], {"stage": name})
            self._waiting.set(stage["waiting"], {"stage": name})
