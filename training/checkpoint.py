"""Checkpoints: whole or absent, the last few and the best; never a pickle that runs code.

The writes of a checkpoint, in order: `step-N/` under a temporary name, its rename, `best.json` if it is the best so far,
the removal of older ones. A kill may fall between any two: the state in `step-N/` names the best checkpoint itself, so
that a resumed run finishes what was left (`tests/training/test_checkpoint.py` tries every one of these points).
"""

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
from safetensors.torch import load_file, save, save_file

import storage

_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Best:
    """The best checkpoint so far and its score; smaller is better."""

    step: int
    score: float


@dataclass(frozen=True)
class Checkpoint:
    """What a step left: weights [name -> tensor], and the state of optimiser, scaler, loader and counts."""

    step: int
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes `folder/step-N/` under a temporary name, syncs it and renames it. Removes what killed writers left."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    final = folder / f"step-{checkpoint.step:08d}"
    if final.exists():
        return final
    temporary = _temporary(folder)
    temporary.mkdir()
    save_file(_on_cpu(checkpoint.weights), temporary / "weights.safetensors")
    with (temporary / "state.pt").open("wb") as file:
        torch.save(checkpoint.state, file)
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    os.replace(temporary, final)
    _sync(folder)
    return final


def prune_checkpoints(folder: Path, keep_last: int) -> None:
    """Removes all but the newest checkpoints and the one that `best.json` names; half of one never has its name."""
    best = read_best(folder)
    for step in checkpoint_steps(folder)[:-keep_last]:
        if best is None or step != best.step:
            doomed = _temporary(folder)
            os.replace(folder / f"step-{step:08d}", doomed)
            shutil.rmtree(doomed)


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


def mark_best(folder: Path, best: Best) -> None:
    """Names the best checkpoint so far in `best.json`."""
    data = json.dumps({"step": best.step, "score": best.score}).encode()
    storage.write_bytes(str(folder / "best.json"), data)


def read_best(folder: Path) -> Best | None:
    """What `mark_best` wrote last."""
    path = folder / "best.json"
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    return Best(int(row["step"]), float(row["score"]))


def save_tensors(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Writes safetensors, whole or not at all."""
    storage.write_bytes(str(path), save(_on_cpu(weights)))


def _on_cpu(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}


def _temporary(folder: Path) -> Path:
    return folder / f"{storage.TEMPORARY}{uuid.uuid4().hex}"


def _sweep(folder: Path) -> None:
    """Removes what killed writers left; `storage.sweep` knows files alone."""
    for leftover in folder.glob(f"{storage.TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
