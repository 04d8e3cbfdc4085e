"""Optimisers, schedules, clipping, and how large a gradient is said to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.students import tiny_student
from training.optimizer import build_optimizer, clip_gradients, lr_factor
from training.settings import OptimizerSettings


@pytest.mark.parity(34)
def test_sgd_with_momentum_and_decay(preset):
    optimizer = build_optimizer(tiny_student(), preset.optimizer)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.002, 0.9, 1e-4)


@pytest.mark.parity(35)
def test_the_learning_rate_of_every_phase(preset):
    assert preset.run.steps == 600_000

    def lr(step: int) -> float:
        return preset.optimizer.lr * lr_factor(step, preset.run.steps, preset.optimizer)

    assert lr(0) == pytest.approx(2e-6)
    assert lr(500) == pytest.approx(0.002 * (0.001 + 0.999 / 2))
    for step, want in ((1000, 2e-3), (299_999, 2e-3), (300_000, 2e-4), (524_999, 2e-4), (525_000, 2e-5)):
        assert lr(step) == pytest.approx(want)
    cosine = OptimizerSettings(warmup_steps=10)
    assert [lr_factor(s, 110, cosine) for s in (10, 60, 110)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parity(37)
def test_each_tensor_s_gradient_is_clipped_alone(preset):
    assert preset.optimizer.clip == 5.0
    model = torch.nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.full((2, 3), 10.0), torch.full((2,), 0.5)
    clip_gradients(model, preset.optimizer)
    assert model.weight.grad.norm().item() == pytest.approx(5.0, rel=1e-5)
    assert model.bias.grad.tolist() == [0.5, 0.5]
    model.weight.grad, model.bias.grad = torch.full((2, 3), 10.0), torch.full((2,), 0.5)
    clip_gradients(model, replace(preset.optimizer, clip_by="global"))
    assert torch.cat([model.weight.grad.flatten(), model.bias.grad]).norm().item() == pytest.approx(
        5.0, rel=1e-5
    )
    assert model.bias.grad[0] < 0.2


@pytest.mark.parametrize("clip_by", ["global", "tensor"])
@pytest.mark.parametrize("clip", [0.0, 0.1, 1e9])
def test_the_norm_is_that_of_all_gradients_before_clipping(clip, clip_by):
    model = torch.nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.full((2, 3), 3.0), torch.full((2,), 4.0)
    norm = clip_gradients(model, OptimizerSettings(clip=clip, clip_by=clip_by))
    assert norm.item() == pytest.approx((6 * 9 + 2 * 16) ** 0.5)
    assert (model.weight.grad[0, 0].item() == pytest.approx(3.0)) == (clip != 0.1)
