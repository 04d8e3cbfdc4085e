"""How a run goes: a line per committed part, rates per stage, and the budgets that end a run early."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pipeline.dataset.blocks import TOTALS, by_reason
from pipeline.settings import BuildSettings

log = logging.getLogger("regionpairs")

#: Seconds between two lines about the stages.
EVERY_S = 10.0
#: What a runner knows of its stages: name -> {"workers": w, "most_workers": most so far, "waiting": parts in its queue}.
Stages = dict[str, dict[str, int]]


class Incomplete(RuntimeError):
    """The dataset is not what it should be: samples or parts lost, or more rejects than the budget."""


class Progress:
    """Counts of a run as its parts are done, a log line each; raises Incomplete once a budget cannot be kept any more.

    stages: asked for what the runner knows of its stages.
    """

    def __init__(
        self, settings: BuildSettings, n_samples: int, n_parts: int, stages: Callable[[], Stages] = dict
    ):
        self._settings, self._n_samples, self._n_parts = settings, n_samples, n_parts
        self._stages = stages
        self._started = self._said = time.perf_counter()
        self._done = 0
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()

    def add(self, row: dict[str, Any], rejects: list[dict[str, Any]], seconds: dict[str, float]) -> None:
        """One committed part."""
        self._done += 1
        for name in TOTALS:
            self._counts[name] += row[name]
        self._reasons.update(by_reason(rejects))
        self._seconds.update(seconds)
        log.info(
            "[%d/%d %3.0f%%] %s: %d images, %d regions, %d pairs, %d rejected; %.1f images/s",
            self._done,
            self._n_parts,
            100 * self._done / self._n_parts,
            row["part"],
            row["n_samples"],
            row["n_regions"],
            row["n_pairs"],
            row["n_rejected"],
            self._counts["n_samples"] / (time.perf_counter() - self._started),
        )
        now = time.perf_counter()
        if now - self._said >= EVERY_S:
            self._said = now
            for name, stage in self.stages().items():
                log.info("stage %s: %s", name, ", ".join(f"{k} {v}" for k, v in stage.items()))
        check_budgets(self._settings, self._reasons, self._n_samples)

    def stages(self) -> dict[str, dict[str, float]]:
        """Stage -> images/s of one of its workers while it works, and seconds of work; of a runner that knows, its workers,
        the most there were, the parts that wait for it, and the share of the workers' time that was work."""
        wall_s = time.perf_counter() - self._started
        runner = self._stages()
        found: dict[str, dict[str, float]] = {}
        for name, seconds in self._seconds.items():
            found[name] = {
                "seconds": round(seconds, 3),
                "images_per_s_of_one": round(self._counts["n_read"] / max(seconds, 1e-9), 2),
                **runner.get(name, {}),
            }
            if most := runner.get(name, {}).get("most_workers"):
                found[name]["busy_share"] = round(seconds / (wall_s * most), 3)
        return found

    def result(self, runtime: str) -> dict[str, Any]:
        """How the run went: seconds from its start (models still to be loaded) to its last commit, and rates over them."""
        wall_s = time.perf_counter() - self._started
        return {
            "runtime": runtime,
            "n_parts_built": self._n_parts,
            "wall_s": round(wall_s, 2),
            "images_per_s": round(self._counts["n_samples"] / wall_s, 2),
            "regions_per_s": round(self._counts["n_regions"] / wall_s, 1),
            "stages": self.stages(),
        }


def check_budgets(settings: BuildSettings, reasons: Counter[str], n_samples: int) -> None:
    """Raises Incomplete if more samples are rejected, or lost in damaged files, than the settings allow."""
    where = "the reasons are in rejects.parquet or, before the end, in manifest/*.json"
    listed = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common(5))
    if sum(reasons.values()) > settings.reject_budget * n_samples:
        raise Incomplete(
            f"{sum(reasons.values())} of {n_samples} samples rejected ({listed}), more than reject_budget "
            f"{settings.reject_budget:g} allows; {where}"
        )
    damaged = sum(n for reason, n in reasons.items() if reason.startswith("damaged"))
    if damaged > settings.damage_budget * n_samples:
        raise Incomplete(
            f"{damaged} of {n_samples} samples are lost in damaged files, more than damage_budget "
            f"{settings.damage_budget:g} allows; {where}"
        )
