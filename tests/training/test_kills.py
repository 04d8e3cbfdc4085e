"""SIGKILL at random moments, resume, and compare with the run that nobody disturbed."""

from __future__ import annotations

import json
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import assert_same_run, make_settings
from training.train import train


def _run(dataset: Path, out: Path, n_steps: int) -> None:
    train(
        make_settings(dataset, out, steps=n_steps, checkpoint_every=4), tiny_student(freeze_batchnorm=False)
    )


def _start(dataset: Path, out: Path, n_steps: int):
    process = get_context("fork").Process(target=_run, args=(dataset, out, n_steps))
    process.start()
    return process


def _steps_done(out: Path) -> int:
    path = out / "keys.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        return json.loads(lines[-1])["step"] if lines else 0
    except json.JSONDecodeError:
        return 0


def _kill_and_resume(tmp_path: Path, kills: int, n_steps: int) -> None:
    dataset = make_dataset(tmp_path / "d", shards=3, per_shard=8)
    whole = _start(dataset, tmp_path / "whole", n_steps)
    whole.join(timeout=120)
    assert whole.exitcode == 0
    rng, out = random.Random(0), tmp_path / "killed"
    for _ in range(kills):
        before = _steps_done(out)
        moment = min(before + rng.randint(1, n_steps // (kills + 1)), n_steps - 3)
        process = _start(dataset, out, n_steps)
        while process.is_alive() and _steps_done(out) < moment:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.005)
        process.kill()
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
    last = _start(dataset, out, n_steps)
    last.join(timeout=120)
    assert last.exitcode == 0
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.parity(40)
def test_killed_twice_a_run_equals_the_undisturbed_one(tmp_path):
    _kill_and_resume(tmp_path, kills=2, n_steps=24)


@pytest.mark.parity(40)
@pytest.mark.slow
def test_killed_ten_times_a_run_equals_the_undisturbed_one(tmp_path):
    _kill_and_resume(tmp_path, kills=10, n_steps=200)
