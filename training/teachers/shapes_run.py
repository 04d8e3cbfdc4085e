"""The whole training of the shapes teacher: its scenes drawn once, its steps, reports, checkpoints and final weights."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pipeline.teachers.shapes_clip import ShapesClip
from training.teachers.settings import ShapesTeacherSettings, TrainShapesTeacher
from training.teachers.shapes import Scenes, Trainer, as_tensor, finish
from world import scenes


def run(settings: TrainShapesTeacher) -> Path:
    """Trains, or goes on from the folder's checkpoint; returns the file of the weights."""
    torch.set_num_threads(settings.threads)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    t = settings.teacher
    side = max(128, *(phase.side for phase in t.phases))
    examples = Scenes(*draw(out / f"scenes-{t.seed}-{t.scenes}-{side}", t, side))
    trainer = Trainer(t)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_state_dict(torch.load(checkpoint, weights_only=True))
    train(settings, trainer, examples, checkpoint)
    finish(trainer.model, examples, t)
    save(trainer.model, out / "shapes.safetensors")
    return out / "shapes.safetensors"


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


def train(settings: TrainShapesTeacher, trainer: Trainer, examples: Scenes, checkpoint: Path) -> None:
    """The steps that are left, with a line of metrics and a checkpoint every `report_every` of them."""
    held_out = [scenes.draw_scene(900, i, scenes.SIZE) for i in range(settings.held_out)]
    losses: list[float] = []
    started = time.perf_counter()
    while trainer.step < settings.teacher.steps:
        losses.append(trainer.advance(examples))
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
def accuracies(model: ShapesClip, drawn: list[scenes.Scene], side: int = 96) -> dict[str, float]:
    """Top-1 of regions (ground-truth boxes) over all kinds, and of whole scenes that show one object alone."""
    model.eval()
    prompts = ("{}", "a {}", "the {}", "a photo of a {}")
    kinds = torch.stack([model.text([p.format(kind) for p in prompts]).mean(0) for kind in scenes.KINDS])
    kinds = torch.nn.functional.normalize(kinds, dim=1)
    maps = torch.cat([model.image.features(as_tensor(s.image[None], side)) for s in drawn])
    rois = [[i, *(c * side for c in box)] for i, s in enumerate(drawn) for box in s.boxes_xyxy_norm.tolist()]
    found = (model.image.pool(maps, torch.tensor(rois)) @ kinds.T).argmax(1)
    true = torch.tensor([scenes.KINDS.index(kind) for s in drawn for kind in s.kinds])
    base = torch.tensor([scenes.KINDS[k] in scenes.BASE_KINDS for k in true])
    lone = [i for i, s in enumerate(drawn) if len(s.kinds) == 1 and s.kinds[0] in scenes.BASE_KINDS]
    whole = (model.image.head(maps[lone].amax((2, 3))) @ kinds.T).argmax(1)
    whole_true = torch.tensor([scenes.KINDS.index(drawn[i].kinds[0]) for i in lone])
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
