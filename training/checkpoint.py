"""Checkpoints: whole or absent, the last few and the best; never a pickle that runs code."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_NAME = re.compile(r"step-(\d{8})")
_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Checkpoint:
    """What a step left: weights [name -> tensor], and the state of optimiser, scaler, loader and counts."""

    step: int
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes `folder/step-N/` under a temporary name, syncs it and renames it.

    A kill leaves at most a temporary folder, which the next save removes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)
    final = folder / f"step-{checkpoint.step:08d}"
    if final.exists():
        return final
    temporary = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    weights = {k: v.detach().cpu().contiguous().clone() for k, v in checkpoint.weights.items()}
    save_file(weights, temporary / "weights.safetensors")
    torch.save(checkpoint.state, temporary / "state.pt")
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    os.replace(temporary, final)
    _sync(folder)
    return final


def prune_checkpoints(folder: Path, keep_last: int) -> None:
    """Removes all but the newest checkpoints and the one that `best.json` names."""
    best = best_step(folder)
    for step in checkpoint_steps(folder)[:-keep_last]:
        if step != best:
            shutil.rmtree(folder / f"step-{step:08d}")


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps whose checkpoints are there, rising."""
    if not folder.is_dir():
        return []
    return sorted(int(m.group(1)) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name)))


def load_checkpoint(folder: Path, step: int) -> Checkpoint:
    """Reads the checkpoint of a step; tensors on the CPU."""
    path = folder / f"step-{step:08d}"
    state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    return Checkpoint(step, load_file(path / "weights.safetensors"), state)


def mark_best(folder: Path, step: int, score: float) -> None:
    """Names the checkpoint of `step` the best so far, atomically."""
    temporary = folder / f"{_TEMPORARY}best"
    temporary.write_text(json.dumps({"step": step, "score": score}))
    _sync(temporary)
    os.replace(temporary, folder / "best.json")


def best_step(folder: Path) -> int | None:
    """The step that `mark_best` named last."""
    path = folder / "best.json"
    return int(json.loads(path.read_text())["step"]) if path.exists() else None


def best_score(folder: Path) -> float | None:
    """The score that `mark_best` noted last."""
    path = folder / "best.json"
    return float(json.loads(path.read_text())["score"]) if path.exists() else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
