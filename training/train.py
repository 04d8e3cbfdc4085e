"""The door of training: settings in, a trained student and its files out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.dataset.manifest import dataset_tau, read_concepts, read_manifest
from training.distributed import rank
from training.losses.objective import Objective
from training.refo import train_by_features
from training.settings import TrainSettings, validate
from training.student import Student, build, save_open_clip, save_weights
from training.trainer import Hooks, device_of, run_stage


def train(
    settings: TrainSettings, student: Student | None = None, hooks: Hooks | None = None
) -> dict[str, Any]:
    """Trains a student on a dataset; returns (and writes to `summary.json`) what came of it.

    student: None builds `settings.student`. It ends with the final weights, also in
    `run.out`/student.safetensors; an open_clip student also in open_clip.safetensors, which
    `open_clip.create_model(..., pretrained=)` loads. An already initialised process group makes this one rank
    of many. Raises ValueError for settings that make no sense and for a run in `run.out` that cannot be
    resumed.
    """
    validate(settings)
    read_manifest(settings.data.dataset)  # what is wrong with it is better said before models are built
    hooks = hooks or Hooks()
    out = str(Path(settings.run.out).expanduser())
    settings = replace(settings, run=replace(settings.run, out=out))
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    student = student or build(settings.student, embed_images=settings.loss.image_weight > 0)
    student.embed_images = settings.loss.image_weight > 0
    tau = settings.loss.tau or dataset_tau(settings.data.dataset)
    concepts = read_concepts(settings.data.dataset).to(device_of(settings))
    objective = Objective(concepts, tau, settings.loss)
    if settings.loss.distill == "feature":
        summary = train_by_features(settings, student, objective, hooks)
    else:
        summary = run_stage(settings, student, objective, hooks)
    if rank() == 0 and summary["finished"]:
        _save_student(settings, student)
    return summary


def _save_student(settings: TrainSettings, student: Student) -> None:
    """The final weights, for this project and, where it came from there, for open_clip."""
    out = Path(settings.run.out)
    save_weights(student.encoder, out / "student.safetensors")
    if settings.student.encoder.kind == "open_clip":
        save_open_clip(student.encoder, settings.student.encoder, out / "open_clip.safetensors")
