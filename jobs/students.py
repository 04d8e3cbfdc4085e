"""One student of a study: trained, measured, and remembered in a JSON file, so that a study goes on where it stopped."""

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


def student_metrics(
    name: str, settings: TrainSettings, known: TruthSettings, about: dict[str, Any]
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
    report = measure(settings.student.encoder, str(out / "student.safetensors"), known)
    kept = {key: summary[key] for key in ("n_samples", "step", "images_per_s") if key in summary}
    metrics = {"name": name, **about, **kept, **report}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(metrics, indent=1))
    os.replace(partial, file)
    return metrics


def measure(encoder: TeacherSettings, checkpoint: str | None, known: TruthSettings) -> dict[str, Any]:
    """The zero-shot report of a student, or of its teacher where `checkpoint` is None."""
    model = models.load_student(encoder, checkpoint)
    images = truth.load(known)
    embedded = models.embed(model, images, load_templates(None), encoder.batch_images)
    return models.zero_shot_report(embedded, images, 1 / model.logit_scale)
