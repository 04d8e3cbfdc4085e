"""Dying between any two writes of a run leaves a state that the next run knows."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import make_settings
from training.checkpoint import Best, Checkpoint, checkpoint_steps, mark_best, read_best, save_checkpoint
from training.train import train
from training.trainer import Hooks

#: Events at which Python tells that a file is about to be made, renamed or removed.
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate", "os.link")
SCORES = {1: 2.0, 2: 1.0, 3: 3.0}


def _settings(dataset: Path, out: Path):
    return make_settings(
        dataset, out, steps=3, checkpoint_every=1, keep_last=1, evaluate_every=1, held_out=0.2, log_keys=False
    )


def _train(dataset: Path, out: Path) -> dict:
    hooks = Hooks(evaluate=lambda model, step: {"score": SCORES[step]})
    return train(_settings(dataset, out), tiny_student(), hooks)


def _dies(dataset: Path, out: Path, at: int) -> None:
    """A run whose process is gone right before its write number `at`; 0: never. Leaves the number of writes in `writes`."""
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event in WRITES or (
            event == "open" and len(arguments) > 2 and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        )
        if not writes or not str(arguments[0]).startswith(str(out)) or ".claim" in str(arguments[0]):
            return
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    _train(dataset, out)
    if not at:
        (out.parent / "writes").write_text(str(seen))


def _in_a_process(*arguments) -> int | None:
    process = get_context("fork").Process(target=_dies, args=arguments)
    process.start()
    process.join(timeout=60)
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, Path, int]:
    """A dataset, a whole run on it, and how many writes that took."""
    folder = tmp_path_factory.mktemp("kills")
    dataset = make_dataset(folder / "d", shards=1, per_shard=8)
    assert _in_a_process(dataset, folder / "whole", 0) == 0
    return dataset, folder / "whole", int((folder / "writes").read_text())


STABLE = ("loss", "gradient_norm", "step", "finished", "n_samples", "skipped", "evaluation_score")


def test_killed_before_any_write_the_next_run_ends_as_the_undisturbed_one(undisturbed, tmp_path):
    dataset, whole, n_writes = undisturbed
    assert n_writes > 30
    want = load_file(whole / "student.safetensors")
    summary = json.loads((whole / "summary.json").read_text())
    metrics = [json.loads(line)["step"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    for at in range(1, n_writes + 1):
        out = tmp_path / f"at-{at}"
        assert _in_a_process(dataset, out, at) == -signal.SIGKILL, at
        _train(dataset, out)
        got = load_file(out / "student.safetensors")
        assert all(torch.equal(want[k], got[k]) for k in want), at
        found = json.loads((out / "summary.json").read_text())
        assert {k: found[k] for k in STABLE} == {k: summary[k] for k in STABLE}, at
        assert checkpoint_steps(out / "checkpoints") == [2, 3], at
        assert read_best(out / "checkpoints") == Best(2, 1.0), at
        assert [json.loads(x)["step"] for x in (out / "metrics.jsonl").read_text().splitlines()] == metrics, (
            at
        )
        assert not [p for p in out.rglob(".tmp-*") if p.parent.name != "buffer"], at


def test_what_a_killed_mark_left_does_not_stop_the_next_checkpoint(tmp_path):
    (tmp_path / ".tmp-best").write_text("half")
    (tmp_path / ".tmp-folder").mkdir()
    save_checkpoint(tmp_path, Checkpoint(1, {"w": torch.zeros(1)}, {}))
    mark_best(tmp_path, Best(1, 0.5))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.json", "step-00000001"]


@pytest.mark.parametrize("scores", [[math.nan, 2.0, 1.0], [math.inf, 1.0, math.nan], [math.nan] * 3])
def test_a_score_that_is_no_number_is_never_the_best(undisturbed, tmp_path, scores):
    dataset, _, _ = undisturbed
    hooks = Hooks(evaluate=lambda model, step: {"score": scores[step - 1]})
    train(_settings(dataset, tmp_path), tiny_student(), hooks)
    finite = {s: i + 1 for i, s in enumerate(scores) if math.isfinite(s)}
    best = read_best(tmp_path / "checkpoints")
    assert best == (Best(finite[min(finite)], min(finite)) if finite else None)


def test_two_runs_do_not_share_a_folder(undisturbed, tmp_path):
    dataset, _, _ = undisturbed

    def second(model, step):
        with pytest.raises(ValueError, match="regionpairs training"):
            train(_settings(dataset, tmp_path), tiny_student())
        return {"score": 1.0}

    settings = replace(_settings(dataset, tmp_path))
    assert train(settings, tiny_student(), Hooks(evaluate=second))["finished"]
