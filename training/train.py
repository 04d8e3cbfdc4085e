"""Settings in, a trained student and its files out: `train(settings)`."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import storage
from training.checkpoint import save_tensors
from training.data.mixture import open_data
from training.data.streams import Streams
from training.devices import device_of
from training.distributed import rank
from training.losses.objective import Objective
from training.refo import train_by_features
from training.settings import TrainSettings
from training.student import Student, build, open_clip_weights
from training.trainer import Hooks, fit


def train(
    settings: TrainSettings, student: Student | None = None, hooks: Hooks | None = None
) -> dict[str, Any]:
    """Trains a student on a dataset; returns (and writes to `summary.json`) what came of it.

    student: None builds `settings.student`. It ends with the final weights, also in
    `run.out`/student.safetensors; an open_clip student also in open_clip.safetensors, which
    `open_clip.create_model(..., pretrained=)` loads. An already initialised process group makes this one rank
    of many. Raises FileNotFoundError where there is no dataset, ValueError for settings that do not fit it and for a
    run in `run.out` that cannot be resumed, BadBudget for a dataset with too much damage, NonFinite for a loss or
    gradient that is no number.
    """
    dataset = open_data(settings.data)
    out = storage.local_folder(settings.run.out, "run.out")
    settings = replace(settings, run=replace(settings.run, out=out))
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    device = device_of(settings)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    streams = Streams(settings, dataset)
    student = student or build(settings.student)
    student.embed_images = settings.loss.image_weight > 0
    concepts = dataset.concepts()
    _check_width(student, concepts)
    objective = Objective(concepts.to(device), settings.loss.tau or dataset.tau, settings.loss)
    run = train_by_features if settings.loss.distill == "feature" else fit
    with _claimed(out):
        summary = run(settings, streams, student, objective, hooks or Hooks())
        if rank() == 0 and summary["finished"]:
            _save_student(settings, student)
    return summary


def _check_width(student: Student, concepts: torch.Tensor) -> None:
    """Raises ValueError for a student that embeds in another space than the concepts, as far as its width says so."""
    width = getattr(student.encoder, "dim", None)
    if width not in (None, concepts.shape[1]):
        raise ValueError(
            f"student.encoder: it embeds in {width} numbers, the dataset's concepts in {concepts.shape[1]}; a student "
            "begins as the teacher that made the pairs (`teacher` in the dataset's settings.yaml)"
        )


def _claimed(out: str) -> contextlib.AbstractContextManager[Any]:
    """One run at a time writes into a folder: rank 0 holds its claim. Raises `storage.Claimed` where another one runs."""
    if rank() != 0:
        return contextlib.nullcontext()
    os.makedirs(out, exist_ok=True)
    return storage.Claim.acquire(out, {"program": "regionpairs training"})


def _save_student(settings: TrainSettings, student: Student) -> None:
    """The final weights, for this project and, where it came from there, for open_clip."""
    out = Path(settings.run.out)
    storage.sweep(settings.run.out)
    save_tensors(student.encoder.state_dict(), out / "student.safetensors")
    if settings.student.encoder.kind == "open_clip":
        weights = open_clip_weights(student.encoder, settings.student.encoder)
        save_tensors(weights, out / "open_clip.safetensors")
