"""Students of one teacher: trained, measured, and remembered in JSON files, so that a study goes on where it stopped."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from concept_pool.prompts import load_templates
from evaluation import models, truth
from evaluation.truth import TruthSettings
from pipeline.teachers.settings import TeacherSettings
from training.loop import train
from training.settings import TrainSettings


class Examiner:
    """Measures a teacher and its students on one set of held-out images; texts are embedded once."""

    def __init__(self, encoder: TeacherSettings, test: TruthSettings):
        self._encoder = encoder
        self._known = truth.in_memory(truth.load(test))
        teacher = models.load_student(encoder, None)
        self._tau = 1 / teacher.logit_scale
        self._teacher = models.embed(teacher, self._known, load_templates(None), encoder.batch_images)
        #: The zero-shot report of the teacher itself.
        self.teacher = models.zero_shot_report(self._teacher, self._known, self._tau)

    def __call__(self, checkpoint: str) -> dict[str, Any]:
        """The zero-shot report of a student."""
        student = models.load_student(self._encoder, checkpoint)
        embedded = models.embed(student, self._known, [], self._encoder.batch_images, texts_of=self._teacher)
        return models.zero_shot_report(embedded, self._known, self._tau)


def student_metrics(
    name: str, settings: TrainSettings, examiner: Examiner, about: dict[str, Any]
) -> dict[str, Any]:
    """Trains into `settings.run.out`/`name` unless `metrics.json` is there; returns what that file holds.

    about: what tells this run from the study's others; goes into the file.
    """
    out = Path(settings.run.out) / name
    file = out / "metrics.json"
    if file.exists():
        return json.loads(file.read_text())
    settings = replace(settings, run=replace(settings.run, out=str(out)))
    summary = train(settings)
    kept: dict[str, Any] = {
        key: summary[key] for key in ("n_samples", "step", "images_per_s") if key in summary
    }
    metrics: dict[str, Any] = {"name": name, **about, **kept, **examiner(str(out / "student.safetensors"))}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(metrics, indent=1))
    os.replace(partial, file)
    return metrics
