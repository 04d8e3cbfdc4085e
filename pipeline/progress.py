"""How a run goes: counts as parts are committed, rates per stage, and the budgets that end a run early."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pipeline.dataset.blocks import TOTALS, by_reason
from pipeline.rejects import WANTED
from pipeline.settings import BuildSettings
from pipeline.standing import Standing, tell

#: Seconds between two questions to the runner how its stages stand: on a cluster each is a request.
ASK_S = 2.0
#: What a runner knows of its stages: name -> {"workers": w, "most_workers": most so far, "waiting": parts in its queue}.
Stages = dict[str, dict[str, int]]


class Incomplete(RuntimeError):
    """The dataset is not what it should be: samples or parts lost, or more rejects than the budget.

    advice: what has to be done before the same command goes on, where it alone would fail again.
    """

    advice = ""


class Progress:
    """Counts of a run as its parts are done, told to who listens (`standing.tell`); raises Incomplete once a budget cannot
    be kept any more.

    n_samples: of the plan. n_todo: of the `n_parts` parts that are run, where that is less. stages: asked for what the
    runner knows of its stages. stored_bytes: asked for what lies in an object store.
    """

    def __init__(
        self,
        settings: BuildSettings,
        n_samples: int,
        n_parts: int,
        stages: Callable[[], Stages] = dict,
        n_todo: int = 0,
        stored_bytes: Callable[[], int] = int,
    ):
        self._settings, self._n_samples, self._n_parts = settings, n_samples, n_parts
        self._stages, self._n_todo, self._stored = stages, n_todo, stored_bytes
        self._stored_now = self._stored_most = 0
        self._started = time.perf_counter()
        self._done = 0
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._asked, self._seen = float("-inf"), self.stages()
        self._tell("workers load their models" if n_parts else "")

    def add(self, row: dict[str, Any], rejects: list[dict[str, Any]], seconds: dict[str, float]) -> None:
        """One committed part."""
        self._done += 1
        for name in TOTALS:
            self._counts[name] += row[name]
        self._reasons.update(by_reason(rejects))
        self._seconds.update(seconds)
        self._tell(row["part"])
        if (
            self._done < self._n_parts
        ):  # behind the last part `finish` checks, once the tables say what was rejected
            check_budgets(self._settings, self._reasons, self._n_samples)

    def _tell(self, current: str = "") -> None:
        counts, now = self._counts, time.perf_counter()
        if now - self._asked >= ASK_S:
            self._asked, self._seen, self._stored_now = now, self.stages(), self._stored()
            self._stored_most = max(self._stored_most, self._stored_now)
        tell(
            Standing(
                "parts", "parts", self._done, self._n_parts, counts["n_read"], self._n_todo or self._n_samples,
                counts["n_regions"], counts["n_pairs"], counts["n_rejected"], current, self._seen,
                self._stored_now,
            )
        )  # fmt: skip

    def stages(self) -> dict[str, dict[str, float]]:
        """Stage -> images/s, those of one of its workers while it works, and seconds of work.

        Of a runner that knows also its workers, the most there were, the parts that wait for it, and the share of the
        workers' time that was work.
        """
        wall_s = time.perf_counter() - self._started
        runner = self._stages()
        found: dict[str, dict[str, float]] = {}
        for name, seconds in self._seconds.items():
            found[name] = {
                "seconds": round(seconds, 3),
                "images_per_s": round(self._counts["n_read"] / max(wall_s, 1e-9), 2),
                "images_per_s_of_one": round(self._counts["n_read"] / max(seconds, 1e-9), 2),
                **runner.get(name, {}),
            }
            if most := runner.get(name, {}).get("most_workers"):
                found[name]["busy_share"] = round(seconds / (wall_s * most), 3)
        return found

    def result(self, runtime: str) -> dict[str, Any]:
        """How the run went: seconds from its start (models still to be loaded) to its last commit, and rates over them.

        object_store_bytes: the most that was seen, where there is such a store.
        """
        wall_s = time.perf_counter() - self._started
        return {
            "runtime": runtime,
            "n_parts_built": self._n_parts,
            "wall_s": round(wall_s, 2),
            "images_per_s": round(self._counts["n_samples"] / wall_s, 2),
            "regions_per_s": round(self._counts["n_regions"] / wall_s, 1),
            "stages": self.stages(),
            **({"object_store_bytes": self._stored_most} if self._stored_most else {}),
        }


def check_budgets(settings: BuildSettings, reasons: Counter[str], n_samples: int) -> None:
    """Raises Incomplete if more samples are rejected, or lost in damaged files, than the settings allow.

    Samples that somebody asked to leave out (`rejects.WANTED`) are no loss.
    """
    where = "the reasons are in rejects.parquet or, before the end, in manifest/*.json"
    reasons = Counter({reason: n for reason, n in reasons.items() if reason not in WANTED})
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
