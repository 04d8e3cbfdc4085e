"""Trains the teacher that ships with the demo, on scenes of the known-truth world's base kinds and their captions.

    python jobs/train_shapes_teacher.py --out runs/shapes_teacher

Draws its scenes once into OUT, writes metrics.jsonl, checkpoints and, at the end, shapes.safetensors (fp16). The same
command goes on where it stopped. Takes about 40 minutes of one CPU core.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from jobs.arguments import parse
from pipeline.teachers.shapes_clip import ShapesClip
from training.teachers.shapes import Scenes, ShapesTeacherSettings, Trainer, as_tensor, finish
from world import scenes


@dataclass(frozen=True)
class TrainShapesTeacher:
    """The training and where it lives.

    Attributes:
        out: folder for scenes, metrics, checkpoints and the final weights
        teacher: the training itself
        held_out: scenes, of all kinds and of another seed, that the reports are measured on
        report_every: steps between reports and checkpoints
        threads: torch threads
    """

    out: str = "runs/shapes_teacher"
    teacher: ShapesTeacherSettings = field(default_factory=ShapesTeacherSettings)
    held_out: int = 300
    report_every: int = 400
    threads: int = 1


def main(argv: list[str] | None = None) -> int:
    settings = parse(TrainShapesTeacher, argv, description=__doc__ or "")
    torch.set_num_threads(settings.threads)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    t = settings.teacher
    side = max(128, *(phase.side for phase in t.phases))
    pictures, captions, n_objects = draw(out / f"scenes-{t.seed}-{t.scenes}-{side}", t, side)
    trainer = Trainer(t)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_state_dict(torch.load(checkpoint, weights_only=True))
    scenes = Scenes(pictures, captions, n_objects)
    train(settings, trainer, scenes, checkpoint)
    finish(trainer.model, scenes, t)
    save(trainer.model, out / "shapes.safetensors")
    return 0


def draw(path: Path, t: ShapesTeacherSettings, side: int) -> tuple[np.ndarray, list[list[str]], list[int]]:
    """The training scenes, drawn once into `path`.npy and read as a memory map."""
    captions = [scenes.captions(t.seed, i, scenes.BASE_KINDS) for i in range(t.scenes)]
    n_objects = [len(scenes.truth(t.seed, i, scenes.BASE_KINDS)[1]) for i in range(t.scenes)]
    file = path.with_suffix(".npy")
    if not file.exists():
        partial = path.with_suffix(".partial.npy")
        pictures = np.lib.format.open_memmap(partial, "w+", np.uint8, (t.scenes, side, side, 3))
        for i in range(t.scenes):
            pictures[i] = scenes.draw_scene(t.seed, i, side, scenes.BASE_KINDS).image
        pictures.flush()
        os.replace(partial, file)
    return np.load(file, mmap_mode="r", allow_pickle=False), captions, n_objects


def train(settings: TrainShapesTeacher, trainer: Trainer, scenes: Scenes, checkpoint: Path) -> None:
    held_out = [scenes.draw_scene(900, i, scenes.SIZE) for i in range(settings.held_out)]
    losses: list[float] = []
    started = time.perf_counter()
    while trainer.step < settings.teacher.steps:
        losses.append(trainer.advance(scenes))
        if trainer.step % settings.report_every and trainer.step < settings.teacher.steps:
            continue
        line: dict[str, float] = {
            "step": trainer.step,
            "passes": trainer.step * settings.teacher.batch_images,
        }
        line |= {"loss": round(float(np.mean(losses)), 4), "wall_s": round(time.perf_counter() - started, 1)}
        line |= accuracies(trainer.model, held_out)
        losses = []
        with (checkpoint.parent / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        torch.save(trainer.state_dict(), checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)


@torch.no_grad()
def accuracies(model: ShapesClip, scenes: list[scenes.Scene], side: int = 96) -> dict[str, float]:
    """Top-1 of regions (ground-truth boxes) over all kinds, and of whole scenes that show one object alone."""
    model.eval()
    prompts = ("{}", "a {}", "the {}", "a photo of a {}")
    kinds = torch.stack([model.text([p.format(kind) for p in prompts]).mean(0) for kind in scenes.KINDS])
    kinds = torch.nn.functional.normalize(kinds, dim=1)
    maps = torch.cat([model.image.features(as_tensor(s.image[None], side)) for s in scenes])
    rois = [[i, *(c * side for c in box)] for i, s in enumerate(scenes) for box in s.boxes_xyxy_norm.tolist()]
    found = (model.image.pool(maps, torch.tensor(rois)) @ kinds.T).argmax(1)
    true = torch.tensor([scenes.KINDS.index(kind) for s in scenes for kind in s.kinds])
    base = torch.tensor([scenes.KINDS[k] in scenes.BASE_KINDS for k in true])
    lone = [i for i, s in enumerate(scenes) if len(s.kinds) == 1 and s.kinds[0] in scenes.BASE_KINDS]
    whole = (model.image.head(maps[lone].amax((2, 3))) @ kinds.T).argmax(1)
    whole_true = torch.tensor([scenes.KINDS.index(scenes[i].kinds[0]) for i in lone])
    right = (found == true).float()
    shares = {
        "region_base": right[base].mean(),
        "region_novel": right[~base].mean(),
        "region_all": right.mean(),
        "scene_base": (whole == whole_true).float().mean(),
    }
    return {name: round(float(value), 4) for name, value in shares.items()}


def save(model: ShapesClip, path: Path) -> None:
    """The weights as fp16, written atomically."""
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()
    }
    save_file(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


if __name__ == "__main__":
    sys.exit(main())
