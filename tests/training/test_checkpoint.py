"""Dying between any two writes of a run leaves a state that the next run knows."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import make_settings, rows
from training.checkpoint import Best, Checkpoint, checkpoint_steps, mark_best, read_best, save_checkpoint
from training.train import train
from training.trainer import Hooks

#: Events at which Python tells that a file is about to be made, renamed or removed.
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate", "os.link")
SCORES = {1: 2.0, 2: 1.0, 3: 3.0}
STABLE = ("loss", "gradient_norm", "step", "finished", "n_samples", "skipped", "evaluation_score")


def _settings(dataset: Path, out: Path):
    return make_settings(
        dataset, out, steps=3, checkpoint_every=1, keep_last=1, evaluate_every=1, held_out=0.2, log_keys=False
    )


def _train(dataset: Path, out: Path) -> dict:
    hooks = Hooks(evaluate=lambda model, step: {"score": SCORES[step]})
    return train(_settings(dataset, out), tiny_student(), hooks)


class _Snapshots:
    """Copies a run's folder right before each of its writes: what a SIGKILL at that moment leaves on the disk.

    An audit hook cannot be taken away again; `over` makes it deaf.
    """

    def __init__(self, out: Path, into: Path):
        self._out, self._into = str(out), into
        self.over, self._seen, self.folders = False, {b""}, []
        sys.addaudithook(self._watch)

    def _watch(self, event: str, arguments: tuple) -> None:
        if self.over or not (event == "open" or event in WRITES):
            return
        reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if reads or not str(arguments[0]).startswith(self._out) or ".claim" in str(arguments[0]):
            return
        self.over = True  # of its own doings
        folder = self._into / str(len(self.folders))
        shutil.copytree(self._out, folder, ignore=shutil.ignore_patterns(".claim*"), dirs_exist_ok=True)
        files = sorted(p for p in folder.rglob("*"))
        state = hashlib.sha256()
        for file in files:
            state.update(
                f"{file.relative_to(folder)}\0".encode() + (file.read_bytes() if file.is_file() else b"")
            )
        if state.digest() not in self._seen:
            self._seen.add(state.digest())
            self.folders.append(folder)
        self.over = False


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("kills") / "d", shards=1, per_shard=8)


def test_killed_before_any_write_the_next_run_ends_as_the_undisturbed_one(dataset, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    states = _Snapshots(whole, tmp_path / "states")
    _train(dataset, whole)
    states.over = True
    assert len(states.folders) > 20
    weights = load_file(whole / "student.safetensors")
    summary = json.loads((whole / "summary.json").read_text())
    steps = [row["step"] for row in rows(whole / "metrics.jsonl")]
    for out in states.folders:
        _train(dataset, out)
        found = load_file(out / "student.safetensors")
        assert all(torch.equal(weights[k], found[k]) for k in weights), out
        again = json.loads((out / "summary.json").read_text())
        assert {k: again[k] for k in STABLE} == {k: summary[k] for k in STABLE}, out
        assert checkpoint_steps(out / "checkpoints") == [2, 3], out
        assert read_best(out / "checkpoints") == Best(2, 1.0), out
        assert [row["step"] for row in rows(out / "metrics.jsonl")] == steps, out
        assert not list(out.rglob(".tmp-*")), out


def test_what_a_killed_mark_left_does_not_stop_the_next_checkpoint(tmp_path):
    (tmp_path / ".tmp-best").write_text("half")
    (tmp_path / ".tmp-folder").mkdir()
    save_checkpoint(tmp_path, Checkpoint(1, {"w": torch.zeros(1)}, {}))
    mark_best(tmp_path, Best(1, 0.5))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.json", "step-00000001"]


@pytest.mark.parametrize("scores", [[math.nan, 2.0, 1.0], [math.inf, 1.0, math.nan], [math.nan] * 3])
def test_a_score_that_is_no_number_is_never_the_best(dataset, tmp_path, scores):
    hooks = Hooks(evaluate=lambda model, step: {"score": scores[step - 1]})
    train(_settings(dataset, tmp_path), tiny_student(), hooks)
    finite = {s: i + 1 for i, s in enumerate(scores) if math.isfinite(s)}
    best = read_best(tmp_path / "checkpoints")
    assert best == (Best(finite[min(finite)], min(finite)) if finite else None)


def test_two_runs_do_not_share_a_folder(dataset, tmp_path):

    def second(model, step):
        with pytest.raises(ValueError, match="regionpairs training"):
            train(_settings(dataset, tmp_path), tiny_student())
        return {"score": 1.0}

    assert train(_settings(dataset, tmp_path), tiny_student(), Hooks(evaluate=second))["finished"]
