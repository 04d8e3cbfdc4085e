"""Trains the known-truth world's teacher: a tiny CLIP on whole scenes and their captions, without a box or a label.

Every random choice is a function of (seed, step), so a run that stops and goes on draws what an undisturbed one draws.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.teachers.shapes_clip import ShapesClip
from training.teachers.settings import ShapesTeacherSettings


class Scenes:
    """Pictures uint8 [N, S, S, 3] (a memory map will do), captions, and how many objects each shows."""

    def __init__(self, pictures: np.ndarray, captions: Sequence[Sequence[str]], n_objects: Sequence[int]):
        self.pictures, self.captions = pictures, captions
        self._n_objects = np.asarray(n_objects)
        self._pools: dict[int, np.ndarray] = {}

    def batch(self, settings: ShapesTeacherSettings, step: int) -> tuple[torch.Tensor, list[list[str]]]:
        """Step's images, float32 [B, 3, side, side] in about [-1, 1], and three captions of each."""
        phase = settings.phase_of(step)
        if phase.max_objects not in self._pools:
            self._pools[phase.max_objects] = np.flatnonzero(self._n_objects <= phase.max_objects)
        pool = self._pools[phase.max_objects]
        rng = np.random.RandomState([settings.seed, step])
        chosen = np.sort(rng.choice(pool, settings.batch_images, replace=False))
        images = as_tensor(self.pictures[chosen], phase.side)
        flipped = torch.from_numpy(rng.random_sample(len(chosen)) < 0.5)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-0.12, 0.12)
        words = random.Random(f"{settings.seed}/{step}")
        return images * gain + shift, [words.choices(self.captions[i], k=3) for i in chosen]


def as_tensor(pictures: np.ndarray, side: int) -> torch.Tensor:
    """uint8 [B, S, S, 3] -> float32 [B, 3, side, side] in [-1, 1], channels last."""
    images = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    if images.shape[2] != side:
        images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return images.contiguous(memory_format=torch.channels_last)


def contrast(model: ShapesClip, images: torch.Tensor, captions: Sequence[Sequence[str]]) -> torch.Tensor:
    """CLIP's symmetric InfoNCE (Radford et al., 2021), the mean over each image's first, second, ... caption."""
    seen = F.normalize(model.image(images), dim=1)
    scale = model.log_scale.exp().clamp(max=100)
    turns = list(zip(*captions, strict=True))
    read = F.normalize(model.text([text for turn in turns for text in turn]), dim=1)
    target = torch.arange(len(images))
    losses = []
    for part in read.split(len(images)):
        logits = scale * seen @ part.T
        losses += [F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)]
    return torch.stack(losses).mean()


@torch.no_grad()
def finish(model: ShapesClip, scenes: Scenes, settings: ShapesTeacherSettings, batches: int = 8) -> None:
    """Centres the text tower on its training captions, and fits the temperature anew to what that changes.

    The temperature is the one of a grid that gives the lowest contrastive loss on `batches` batches of the last phase.
    """
    model.eval()
    model.text.center.zero_()
    drawn = [scenes.batch(settings, settings.steps - 1 - i) for i in range(batches)]
    texts = [text for _, captions in drawn for row in captions for text in row]
    model.text.center.copy_(model.text(texts).mean(0))
    losses = {}
    for scale in torch.linspace(4, 40, 37):
        model.log_scale.fill_(scale.log())
        losses[float(scale)] = sum(float(contrast(model, images, captions)) for images, captions in drawn[:3])
    model.log_scale.fill_(torch.tensor(min(losses, key=lambda scale: losses[scale])).log())


class Trainer:
    """The model, its optimiser and the step it is at."""

    def __init__(self, settings: ShapesTeacherSettings):
        torch.manual_seed(settings.seed)
        self.settings, self.step = settings, 0
        self.model = ShapesClip()
        self.model.image.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.lr, settings.steps, pct_start=0.05
        )

    def advance(self, scenes: Scenes) -> float:
        """One step; its loss."""
        self.model.train()
        images, captions = scenes.batch(self.settings, self.step)
        loss = contrast(self.model, images, captions)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return loss.item()

    def state_dict(self) -> dict:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
