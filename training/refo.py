"""Feature distillation with a student-aware teacher (ReFO: Li et al., CVPR 2023), on stored embeddings.

Three stages, each a training of its own with checkpoints below run.out:
0. the student learns the task (the contrastive losses);
1. the teacher learns the task with an MSE to the frozen student's embeddings, so that it stays within the student's
   reach. Here the teacher is its stored embeddings, so what learns is a residual map on them, the same for
   every region;
2. the teacher is frozen, and the student learns its embeddings by MSE alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

import storage
from training.data.batch import Batch
from training.data.streams import Streams
from training.distributed import mean_over_ranks, rank
from training.losses.objective import Objective, stored_embeddings
from training.settings import TrainSettings
from training.student import Student
from training.trainer import Hooks, fit


class AwareTeacher(nn.Module):
    """Stored teacher embeddings and a residual map on them, which starts as the identity. [R, D] -> unit [R, D]."""

    def __init__(self, dim: int, width: int = 512):
        super().__init__()
        self.inner = nn.Linear(dim, width)
        self.outer = nn.Linear(width, dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        unit = normalize(embeddings.float(), dim=1)
        return normalize(unit + self.outer(torch.relu(self.inner(unit))), dim=1)


class TeacherStage(nn.Module):
    """Stage 1's model: the teacher's embeddings of a batch beside the frozen student's."""

    def __init__(self, teacher: AwareTeacher, student: Student):
        super().__init__()
        self.teacher = teacher
        self.student = [student]  # in a list: not ours to train, move or save

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            seen, _ = self.student[0](batch)
        return self.teacher(stored_embeddings(batch)), seen


@dataclass(frozen=True)
class TeacherObjective:
    """The teacher's task losses plus `weight` times the MSE to the student."""

    task: Objective
    weight: float

    def __call__(self, outputs: tuple[torch.Tensor, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        taught, seen = outputs
        losses = self.task((taught, taught[:0]), batch)
        near = mean_over_ranks(embedding_mse(taught, seen), self.task.settings.average)
        return {**losses, "total": losses["total"] + self.weight * near, "to_student": near}


@dataclass(frozen=True)
class FeatureObjective:
    """Stage 2's loss: the MSE to the frozen teacher's embeddings, alone."""

    teacher: AwareTeacher
    average: str

    def __call__(self, outputs: tuple[torch.Tensor, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        regions, images = outputs
        with torch.no_grad():
            target = self.teacher(stored_embeddings(batch))
        loss = mean_over_ranks(embedding_mse(regions, target), self.average)
        return {"total": loss + 0.0 * (regions.sum() + images.sum()), "feature": loss}


def embedding_mse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """||a / |a| - b / |b| ||^2 of each row, [R, D] twice -> [R]: 2 - 2 cos, in [0, 4]."""
    return (normalize(a.float(), dim=1) - normalize(b.float(), dim=1)).square().sum(dim=1)


def train_by_features(
    settings: TrainSettings, streams: Streams, student: Student, objective: Objective, hooks: Hooks
) -> dict[str, Any]:
    """All three stages, one after the other; each resumes by itself. Returns the last stage's summary.

    objective: over the dataset's concepts; its distillation is left out.
    """
    n_steps = settings.run.steps or streams.n_steps
    task = replace(objective, settings=replace(settings.loss, distill="logits", distill_weight=0.0))
    first = fit(stage_settings(settings, 0, n_steps), streams, student, task, hooks)
    if not first["finished"]:
        return first
    teacher = aware_teacher(task.concepts.shape[1], settings.run.seed).to(task.concepts.device)
    embed_images, student.embed_images = student.embed_images, False
    student.eval().hold()
    no_images = replace(task, settings=replace(task.settings, image_weight=0.0))
    aware = TeacherObjective(no_images, settings.loss.refo_proxy_weight)
    held = replace(hooks, evaluate=None)
    second = fit(stage_settings(settings, 1, n_steps), streams, TeacherStage(teacher, student), aware, held)
    if not second["finished"]:
        return second
    teacher.eval().requires_grad_(False)
    student.release()
    feature = FeatureObjective(teacher, settings.loss.average)
    summary = fit(stage_settings(settings, 2, n_steps), streams, student, feature, hooks)
    student.embed_images = embed_images
    if rank() == 0 and summary["finished"]:
        data = json.dumps(summary, indent=2).encode()
        storage.write_bytes(storage.join(settings.run.out, "summary.json"), data)
    return summary


def aware_teacher(dim: int, seed: int) -> AwareTeacher:
    """The teacher before its stage, drawn from a seed of its own: the same whether stage 0 ran just now or long ago."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AwareTeacher(dim)


def stage_settings(settings: TrainSettings, stage: int, n_steps: int) -> TrainSettings:
    """The settings of a stage: its share of n_steps, its own folder; the teacher's is evaluated by nobody."""
    share = max(1, round(n_steps * settings.loss.refo_stages[stage]))
    run = replace(settings.run, steps=share, out=str(Path(settings.run.out) / f"stage-{stage}"))
    if stage == 1:
        run = replace(run, evaluate_every=0)
    return replace(settings, run=run)
