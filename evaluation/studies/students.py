"""Students of one teacher: trained, measured, and remembered in JSON files, so that a study goes on where it stopped."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import storage
from concept_pool.prompts import load_templates
from evaluation import model_report, truth
from evaluation.settings import TruthSettings
from pipeline.teachers.settings import TeacherSettings
from training.settings import TrainSettings
from training.train import train


class Map(Protocol):
    """What runs a function over items, here or on a cluster: the builtin `map`, or `jobs.on_ray.tasks.TaskMap`."""

    def __call__(self, function: Callable[[Any], Any], items: Sequence[Any], /) -> Iterable[Any]:
        """The results, in any order, each as soon as it is there. An exception of one ends the whole."""
        ...


@dataclass(frozen=True)
class StudentRun:
    """A student to be trained into `train.run.out`/`name`. about: what tells it from the study's others."""

    name: str
    train: TrainSettings
    about: dict[str, Any]


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


def train_all(runs: Sequence[StudentRun], test: TruthSettings, map: Map = map) -> Iterator[dict[str, Any]]:
    """The metrics of every student as it is done; first those that are there already.

    map: runs `train_one` over the students that are not.
    """
    todo = []
    for run in runs:
        if storage.exists(metrics_file(run)):
            yield json.loads(storage.read_bytes(metrics_file(run)))
        else:
            todo.append(run)
    if todo:
        yield from map(functools.partial(train_one, test=test), todo)


def metrics_file(run: StudentRun) -> str:
    """Where a student's metrics are, once it is trained and measured."""
    return storage.join(_folder(run), "metrics.json")


def train_one(run: StudentRun, test: TruthSettings) -> dict[str, Any]:
    """Trains and measures a student; its metrics, which are also in its `metrics.json`."""
    out = _folder(run)
    summary = train(replace(run.train, run=replace(run.train.run, out=out)))
    kept: dict[str, Any] = {
        key: summary[key] for key in ("n_samples", "step", "images_per_s") if key in summary
    }
    examined = examiner_of(run.train.student.encoder, test)(f"{out}/student.safetensors")
    metrics: dict[str, Any] = {"name": run.name, **run.about, **kept, **examined}
    storage.write_bytes(metrics_file(run), json.dumps(metrics, indent=1).encode())
    return metrics


def _folder(run: StudentRun) -> str:
    return storage.absolute(storage.join(run.train.run.out, run.name))


#: The last examiner of this process, by its settings: a study measures all of its students with one.
_EXAMINERS: dict[str, Examiner] = {}


def examiner_of(encoder: TeacherSettings, test: TruthSettings) -> Examiner:
    """The examiner of a study, made once a process."""
    key = json.dumps([asdict(encoder), asdict(test)], sort_keys=True, default=str)
    if key not in _EXAMINERS:
        _EXAMINERS.clear()
        _EXAMINERS[key] = Examiner(encoder, test)
    return _EXAMINERS[key]
