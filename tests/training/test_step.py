"""One optimiser step: nothing that is not finite moves a weight."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.dataset import Dataset
from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import make_settings, rows
from training.data.streams import Streams
from training.losses.objective import Objective
from training.settings import OptimizerSettings
from training.step import NonFinite, Step
from training.trainer import Hooks, fit


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "d", shards=1, per_shard=8)


class _Spoiled:
    """An objective whose loss (or its gradient) is not finite from its call number `after` on."""

    def __init__(self, objective, after: int, what: str):
        self.objective, self.after, self.what, self.calls = objective, after, what, 0

    def __call__(self, outputs, batch):
        losses = self.objective(outputs, batch)
        self.calls += 1
        if self.calls > self.after:
            total = losses["total"]
            # sqrt has an infinite slope at 0: a loss that is finite, with a gradient that is not
            spoiled = total * math.nan if self.what == "loss" else total + (total - total).sqrt()
            losses = {**losses, "total": spoiled}
        return losses


def _fit(dataset, settings, student, what, after):
    opened = Dataset.open(str(dataset))
    objective = _Spoiled(Objective(opened.concepts(), 0.05, settings.loss), after, what)
    return fit(settings, Streams(settings, opened), student, objective, Hooks())


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_not_finite_is_refused_with_step_and_keys(dataset, tmp_path, what, precision, accumulate):
    settings = make_settings(dataset, tmp_path, steps=6, checkpoint_every=1)
    settings = replace(settings, optimizer=OptimizerSettings(precision=precision, accumulate=accumulate))
    student = tiny_student()
    with pytest.raises(NonFinite, match=f"step 4: the {what} is not finite") as error:
        _fit(dataset, settings, student, what, after=3 * accumulate)
    assert (error.value.step, len(error.value.keys)) == (4, 4)
    assert all(key in str(error.value) for key in error.value.keys)
    saved = torch.load(tmp_path / "checkpoints" / "step-00000003" / "state.pt", weights_only=True)
    assert saved["values"]["gradient_norm"] > 0
    assert all(torch.isfinite(p).all() for p in student.parameters())
    assert len(rows(tmp_path / "metrics.jsonl")) == 3
    # Nothing of step 4 is left: the run goes on from step 3 once the cause is mended.
    assert _fit(dataset, settings, tiny_student(), what, after=99)["finished"]


def test_weights_do_not_move_in_a_refused_step(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path)
    opened = Dataset.open(str(dataset))
    student = tiny_student()
    objective = _Spoiled(Objective(opened.concepts(), 0.05, settings.loss), 0, "gradient norm")
    step = Step(settings, student.train(), objective, 5)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    with pytest.raises(NonFinite):
        step(0, next(Streams(settings, opened).loader().steps(1)))
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


def test_a_half_precision_gradient_that_overflows_is_the_scalers_to_skip(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path, steps=3)
    settings = replace(settings, optimizer=OptimizerSettings(precision="fp16"))
    opened = Dataset.open(str(dataset))
    student = tiny_student()
    objective = _Spoiled(Objective(opened.concepts(), 0.05, settings.loss), 0, "gradient norm")
    step = Step(settings, student, objective, 40)
    batches = next(Streams(settings, opened).loader().steps(1))
    scale = step.scaler.get_scale()
    for number in range(int(math.log2(scale))):
        outcome = step(number, batches)
        assert outcome.gradient_norm == math.inf
    assert step.scaler.get_scale() == 1
    with pytest.raises(NonFinite):  # not an overflow: no scale would help
        step(10, batches)


def test_metrics_are_json_also_where_a_number_is_not_finite(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path, steps=2)
    settings = replace(settings, optimizer=OptimizerSettings(precision="fp16"))
    _fit(dataset, settings, tiny_student(), "gradient norm", after=1)

    def refuse(name):
        raise AssertionError(name)

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert first["gradient_norm"] > 0
    assert second["gradient_norm"] is None
