"""How does a student's error fall with the number of samples? Nested subsets, several seeds, one page at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import storage
from evaluation.studies.scaling_report import Run, write_report
from evaluation.studies.settings import ScalingSettings
from evaluation.studies.students import Map, StudentRun, examiner_of, train_all

log = logging.getLogger("regionpairs")


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


def run(settings: ScalingSettings, map: Map = map) -> str:
    """Trains what is not trained yet and writes the report; returns its page.

    map: where students are trained (evaluation/studies/students.py). Raises FileNotFoundError where only a report is
    asked for and no student is there.
    """
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    if not settings.only_report:
        train_students(settings, out, map)
    done = [json.loads(path.read_text()) for path in sorted((out / "runs").glob("*/metrics.json"))]
    runs = [run_of(m) for m in done if m["data"] in settings.datasets or not settings.datasets]
    if not runs:
        raise FileNotFoundError(f"out: {out / 'runs'} holds no metrics of a student")
    error = 1 - json.loads((out / "teacher.json").read_text())["regions"]["all"]["top1"]
    return write_report(out, runs, error, "region top-1")


def plans(settings: ScalingSettings) -> Iterator[Plan]:
    """Every student of the study, seed by seed, so that a study cut short has whole seeds."""
    for seed in settings.seeds:
        for budget in settings.budgets:
            for fraction in settings.fractions:
                for data in settings.datasets:
                    yield Plan(data, budget, fraction, seed)


def train_students(settings: ScalingSettings, out: Path, map: Map) -> None:
    """Every student that is not there yet, and the teacher's own figures."""
    teacher = examiner_of(settings.train.student.encoder, settings.test).teacher
    storage.write_bytes(str((out / "teacher.json").absolute()), json.dumps(teacher).encode())
    for metrics in train_all([run_for(settings, plan) for plan in plans(settings)], settings.test, map):
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
