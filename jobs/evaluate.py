"""How good are a model's regions, and a dataset's pairs, where the truth is known?

    python jobs/evaluate.py --truth.kind shapes --truth.count 500                    # the embedded teacher
    python jobs/evaluate.py --student runs/student/student.safetensors               # a student of it
    python jobs/evaluate.py --dataset data/demo --truth.seed 0 --truth.count 512     # the pairs of a dataset
    python jobs/evaluate.py --teacher.kind photo --truth.kind coco --truth.images DIR --truth.instances FILE

Prints a summary and writes the whole report as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from concept_pool.prompts import load_templates
from evaluation import model_report, pair_report, truth
from evaluation.metrics import boxes
from evaluation.metrics.detection import DetectionSettings
from jobs.arguments import parse
from pipeline import localizers
from pipeline.localizers.settings import LocalizerSettings
from pipeline.teachers.settings import TeacherSettings


@dataclass(frozen=True)
class EvaluateSettings:
    """What to measure, and on what.

    Attributes:
        out: file of the JSON report; none: only printed
        dataset: folder or URL of a built dataset whose pairs are measured; none: a model is measured
        student: student.safetensors of the trainer, in the place of the teacher's image tower
        tau: temperature of the softmax; 0: what the teacher was trained with
        proposals: also measure on the localizer's proposals: recall and detection
        templates: text file of prompts; none: the 81 of RegionCLIP
        batch_images: images in one pass
        threads: torch threads; 0: torch's own choice
    """

    out: str | None = None
    dataset: str | None = None
    student: str | None = None
    tau: float = 0.0
    proposals: bool = False
    templates: str | None = None
    batch_images: int = 16
    threads: int = 0
    truth: truth.TruthSettings = field(default_factory=truth.TruthSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    localizer: LocalizerSettings = field(default_factory=LocalizerSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)


def main(argv: list[str] | None = None) -> int:
    settings = parse(EvaluateSettings, argv, description=__doc__ or "")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        known = truth.load(settings.truth)
        report = (
            pair_report.pair_report(settings.dataset, known) if settings.dataset else measure(settings, known)
        )
    except (ValueError, FileNotFoundError) as e:
        print(f"evaluate.py: {e}", file=sys.stderr)
        return 2
    document = {"settings": asdict(settings), **report}
    if settings.out:
        Path(settings.out).parent.mkdir(parents=True, exist_ok=True)
        Path(settings.out).write_text(json.dumps(document, indent=1))
    print("\n".join(lines(report)))
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
