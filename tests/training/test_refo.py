"""ReFO's three stages as one run: killed between any two, it resumes to the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import make_settings
from training import refo
from training.settings import LossSettings
from training.train import train


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "d", shards=1, per_shard=8)


def _settings(dataset: Path, out: Path):
    return replace(make_settings(dataset, out, steps=9), loss=LossSettings(distill="feature"))


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("whole")
    train(_settings(dataset, out), tiny_student())
    return load_file(out / "student.safetensors")


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_killed_after_a_stage_it_resumes_to_the_same_weights(
    dataset, tmp_path, monkeypatch, undisturbed, stages
):
    real, calls = refo.fit, []

    def fit(*arguments):
        calls.append(real(*arguments))
        if len(calls) == stages:
            raise Killed
        return calls[-1]

    with monkeypatch.context() as patched:
        patched.setattr(refo, "fit", fit)
        with pytest.raises(Killed):
            train(_settings(dataset, tmp_path), tiny_student())
    torch.manual_seed(4711)  # a new process has another generator
    train(_settings(dataset, tmp_path), tiny_student())
    found = load_file(tmp_path / "student.safetensors")
    assert all(torch.equal(undisturbed[k], found[k]) for k in undisturbed)
    assert (tmp_path / "summary.json").exists()


def test_the_teacher_is_drawn_from_its_own_seed_and_draws_nothing_else():
    torch.manual_seed(1)
    first = refo.aware_teacher(8, 3).state_dict()
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(v, first[k]) for k, v in refo.aware_teacher(8, 3).state_dict().items())
    assert not torch.equal(refo.aware_teacher(8, 4).inner.weight, first["inner.weight"])
