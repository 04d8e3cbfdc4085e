"""How does a student's error fall with the number of samples? Nested subsets, several seeds, one page at the end.

    python jobs/scaling_study.py --datasets '{caption: runs/labels/data/caption}' --out runs/scaling --passes 4096
    ray job submit --working-dir . -- python jobs/scaling_study.py --parallel.runtime ray ...

Runs that are done are kept: the same command goes on where it stopped. `--only_report true` reads metrics alone.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evaluation.studies.scaling_report import Run, write_report
from evaluation.studies.students import Parallel, StudentRun, examiner_of, train_all
from evaluation.truth import TruthSettings
from jobs.arguments import parse
from training.settings import TrainSettings

log = logging.getLogger("regionpairs")


@dataclass(frozen=True)
class ScalingSettings:
    """The study.

    Attributes:
        datasets: name -> folder of a built dataset, e.g. one a label policy
        out: folder of runs, runs.csv, scaling.png and report.md
        fractions: shares of each dataset; the samples of a smaller one lie in every larger one
        seeds: of the training order
        budgets: passes (each student sees `passes` images) | epochs (each sees its samples `epochs` times)
        passes: images a student sees (budget: passes)
        epochs: how often a student sees each of its samples (budget: epochs)
        only_report: read the metrics that are there and write the report
    """

    datasets: dict[str, str] = field(default_factory=dict)
    out: str = "runs/scaling"
    fractions: list[float] = field(default_factory=lambda: [0.0625, 0.125, 0.25, 0.5, 1.0])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budgets: list[Literal["passes", "epochs"]] = field(default_factory=lambda: ["passes"])
    passes: int = 4096
    epochs: float = 4.0
    only_report: bool = False
    train: TrainSettings = field(default_factory=TrainSettings)
    test: TruthSettings = field(default_factory=TruthSettings)
    parallel: Parallel = field(default_factory=Parallel)


@dataclass(frozen=True)
class Plan:
    """One student to be trained."""

    data: str
    budget: str
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.budget}-{self.fraction:g}-{self.seed}"


def main(argv: list[str] | None = None) -> int:
    settings = parse(ScalingSettings, argv, description=__doc__ or "", validate=check)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout
    )
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    if not settings.only_report:
        train_students(settings, out)
    done = [json.loads(path.read_text()) for path in sorted((out / "runs").glob("*/metrics.json"))]
    runs = [run_of(m) for m in done if m["data"] in settings.datasets or not settings.datasets]
    teacher = out / "teacher.json"
    error = 1 - json.loads(teacher.read_text())["regions"]["all"]["top1"]
    print(write_report(out, runs, error, "region top-1"))
    return 0


def check(settings: ScalingSettings) -> None:
    """Raises ValueError("key: what is wrong")."""
    if not settings.datasets and not settings.only_report:
        raise ValueError("datasets: is empty; give name -> folder of at least one built dataset")
    if not all(0 < f <= 1 for f in settings.fractions):
        raise ValueError(f"fractions: must be above 0 and at most 1, are {settings.fractions}")


def plans(settings: ScalingSettings) -> Iterator[Plan]:
    """Every student of the study, seed by seed, so that a study cut short has whole seeds."""
    for seed in settings.seeds:
        for budget in settings.budgets:
            for fraction in settings.fractions:
                for data in settings.datasets:
                    yield Plan(data, budget, fraction, seed)


def train_students(settings: ScalingSettings, out: Path) -> None:
    """Every student that is not there yet, and the teacher's own figures."""
    runs = [run_for(settings, plan) for plan in plans(settings)]
    teacher = examiner_of(settings.train.student.encoder, settings.test).teacher
    (out / "teacher.json").write_text(json.dumps(teacher))
    for metrics in train_all(runs, settings.test, settings.parallel):
        error = run_of(metrics).error
        log.info("%s: %d samples, region top-1 %.4f", metrics["name"], metrics["n_samples"], 1 - error)


def run_for(settings: ScalingSettings, plan: Plan) -> StudentRun:
    """What the plan says, as settings of the trainer."""
    base = settings.train
    steps = max(1, round(settings.passes / base.data.batch_images)) if plan.budget == "passes" else 0
    out = str(Path(settings.out) / "runs")
    train = replace(
        base,
        data=replace(base.data, dataset=settings.datasets[plan.data], subset=plan.fraction),
        run=replace(base.run, out=out, seed=plan.seed, steps=steps, epochs=settings.epochs),
    )
    return StudentRun(plan.name, train, {k: v for k, v in vars(plan).items() if k != "name"})


def run_of(metrics: dict[str, Any]) -> Run:
    """A run's line of the report."""
    return Run(
        metrics["data"],
        metrics["budget"],
        metrics["n_samples"],
        metrics["seed"],
        metrics["step"],
        1 - metrics["regions"]["all"]["top1"],
    )


if __name__ == "__main__":
    sys.exit(main())
