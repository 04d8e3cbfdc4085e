"""How does a student's error fall with the number of samples? Nested subsets, several seeds, one page at the end.

    python jobs/scaling_study.py --datasets '{caption: runs/labels/data/caption}' --out runs/scaling --passes 4096
    ray job submit --working-dir . -- python jobs/scaling_study.py --runtime ray ...

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

from evaluation.scaling_report import Run, write_report
from evaluation.truth import TruthSettings
from jobs.arguments import parse
from jobs.students import Examiner, student_metrics
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
        runtime: local (one after the other) | ray (as tasks of a cluster)
        cpus_per_run: CPUs that Ray reserves for a run
        gpus_per_run: GPUs that Ray reserves for a run
        only_report: read the metrics that are there and write the report
    """

    datasets: dict[str, str] = field(default_factory=dict)
    out: str = "runs/scaling"
    fractions: list[float] = field(default_factory=lambda: [0.0625, 0.125, 0.25, 0.5, 1.0])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budgets: list[Literal["passes", "epochs"]] = field(default_factory=lambda: ["passes"])
    passes: int = 4096
    epochs: float = 4.0
    runtime: Literal["local", "ray"] = "local"
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0
    only_report: bool = False
    train: TrainSettings = field(default_factory=TrainSettings)
    test: TruthSettings = field(default_factory=TruthSettings)


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
    todo = [plan for plan in plans(settings) if not (out / "runs" / plan.name / "metrics.json").exists()]
    if todo and not settings.only_report:
        run_all(settings, todo)
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


def run_all(settings: ScalingSettings, todo: list[Plan]) -> None:
    """Trains and measures the students, here or on Ray."""
    examiner = Examiner(settings.train.student.encoder, settings.test)
    (Path(settings.out) / "teacher.json").write_text(json.dumps(examiner.teacher))
    if settings.runtime == "local":
        for plan in todo:
            metrics = run_one(settings, plan, examiner)
            log.info(
                "%s: %d samples, region top-1 %.4f",
                plan.name,
                metrics["n_samples"],
                1 - run_of(metrics).error,
            )
        return
    import ray

    task = ray.remote(num_cpus=settings.cpus_per_run, num_gpus=settings.gpus_per_run)(run_one)
    waiting = {task.remote(settings, plan): plan for plan in todo}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        log.info("%s: region top-1 %.4f", waiting.pop(ready).name, 1 - run_of(ray.get(ready)).error)


def run_one(settings: ScalingSettings, plan: Plan, examiner: Examiner | None = None) -> dict[str, Any]:
    """The metrics of one student; a Ray task has no examiner and makes its own."""
    base = settings.train
    steps = max(1, round(settings.passes / base.data.batch_images)) if plan.budget == "passes" else 0
    train = replace(
        base,
        data=replace(base.data, dataset=settings.datasets[plan.data], subset=plan.fraction),
        run=replace(
            base.run,
            out=str(Path(settings.out) / "runs"),
            seed=plan.seed,
            steps=steps,
            epochs=settings.epochs,
        ),
    )
    examiner = examiner or Examiner(base.student.encoder, settings.test)
    about = {"data": plan.data, "budget": plan.budget, "fraction": plan.fraction, "seed": plan.seed}
    return student_metrics(plan.name, train, examiner, about)


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
