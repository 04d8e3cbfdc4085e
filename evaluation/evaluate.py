"""One measurement as its settings describe it: of a dataset's pairs, or of a model."""

from __future__ import annotations

import torch

from concept_pool.prompts import load_templates
from evaluation import model_report, pair_report, truth
from evaluation.metrics import boxes
from evaluation.settings import EvaluateSettings
from pipeline import localizers
from pipeline.dataset import Dataset


def evaluate(settings: EvaluateSettings) -> dict:
    """The report, JSON values. Raises ValueError and FileNotFoundError for what the settings get wrong."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    known = truth.load(settings.truth)
    if settings.dataset:
        return pair_report.pair_report(Dataset.open(settings.dataset), known)
    return measure(settings, known)


def measure(settings: EvaluateSettings, known: truth.TruthSet) -> dict:
    """The report of a model."""
    model = model_report.load_student(settings.teacher, settings.student)
    tau = settings.tau or 1 / model.logit_scale
    embedded = model_report.embed(model, known, load_templates(settings.templates), settings.batch_images)
    report = {"tau": tau, **model_report.zero_shot_report(embedded, known, tau)}
    if settings.proposals:
        localizer = localizers.load(settings.localizer, settings.teacher.device)
        found = [localizer([image.load()], [image.key])[0].boxes_xyxy_norm for image in known.images]
        report["proposals"] = boxes.recall(found, [image.boxes_xyxy_norm for image in known.images])
        report["detection_on_proposals"] = model_report.detection_on_proposals(
            model, localizer, known, embedded.classes, tau, settings.detection, settings.batch_images
        )
    return report


def lines(report: dict, prefix: str = "") -> list[str]:
    """The report's figures, one a line; tables of bins are left to the file."""
    found = []
    for name, value in report.items():
        if isinstance(value, dict):
            found += lines(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            found.append(f"{prefix}{name}: {value:.4f}")
        elif not isinstance(value, list):
            found.append(f"{prefix}{name}: {value}")
    return found
