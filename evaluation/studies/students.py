"""Students of one teacher: trained, measured, and remembered in JSON files, so that a study goes on where it stopped."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from concept_pool.prompts import load_templates
from evaluation import model_report, truth
from evaluation.truth import TruthSettings
from pipeline.teachers.settings import TeacherSettings
from training.settings import TrainSettings
from training.train import train


class Examiner:
    """Measures a teacher and its students on one set of held-out images; texts are embedded once."""

    def __init__(self, encoder: TeacherSettings, test: TruthSettings):
        self._encoder = encoder
        self._known = truth.in_memory(truth.load(test))
        teacher = model_report.load_student(encoder, None)
        self._tau = 1 / teacher.logit_scale
        self._teacher = model_report.embed(teacher, self._known, load_templates(None), encoder.batch_images)
        #: The zero-shot report of the teacher itself.
        self.teacher = model_report.zero_shot_report(self._teacher, self._known, self._tau)

    def __call__(self, checkpoint: str) -> dict[str, Any]:
        """The zero-shot report of a student."""
        student = model_report.load_student(self._encoder, checkpoint)
        embedded = model_report.embed(
            student, self._known, [], self._encoder.batch_images, texts_of=self._teacher
        )
        return model_report.zero_shot_report(embedded, self._known, self._tau)


@dataclass(frozen=True)
class StudentRun:
    """A student to be trained into `train.run.out`/`name`. about: what tells it from the study's others."""

    name: str
    train: TrainSettings
    about: dict[str, Any]


@dataclass(frozen=True)
class Parallel:
    """How a study trains its students.

    Attributes:
        runtime: local (one after the other) | ray (as tasks of the job's cluster, or of this machine)
        cpus_per_run: CPUs that Ray reserves for a student
        gpus_per_run: GPUs that Ray reserves for a student
    """

    runtime: Literal["local", "ray"] = "local"
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0


def train_all(
    runs: Sequence[StudentRun], test: TruthSettings, parallel: Parallel
) -> Iterator[dict[str, Any]]:
    """The metrics of every student as it is done; at once where they are there already."""
    todo = []
    for run in runs:
        if metrics_file(run).exists():
            yield json.loads(metrics_file(run).read_text())
        else:
            todo.append(run)
    if parallel.runtime == "local" or not todo:
        yield from (train_one(run, test) for run in todo)
        return
    import ray

    from jobs.on_ray.build import connect

    connect()
    task = ray.remote(num_cpus=parallel.cpus_per_run, num_gpus=parallel.gpus_per_run)(train_one)
    waiting = [task.remote(run, test) for run in todo]
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        yield ray.get(done)


def metrics_file(run: StudentRun) -> Path:
    return Path(run.train.run.out) / run.name / "metrics.json"


def train_one(run: StudentRun, test: TruthSettings) -> dict[str, Any]:
    """Trains and measures a student; its metrics, which are also in its `metrics.json`."""
    file = metrics_file(run)
    out = str(file.parent)
    summary = train(replace(run.train, run=replace(run.train.run, out=out)))
    kept: dict[str, Any] = {
        key: summary[key] for key in ("n_samples", "step", "images_per_s") if key in summary
    }
    examiner = examiner_of(run.train.student.encoder, test)
    metrics: dict[str, Any] = {
        "name": run.name,
        **run.about,
        **kept,
        **examiner(f"{out}/student.safetensors"),
    }
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(metrics, indent=1))
    os.replace(partial, file)
    return metrics


@functools.lru_cache(maxsize=1)
def examiner_of(encoder: TeacherSettings, test: TruthSettings) -> Examiner:
    """The examiner of a study, once a process."""
    return Examiner(encoder, test)
