"""Training a localizer: it learns, resumes to the same weights, refuses what is not finite."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.localizers.set_shape import SetShape
from pipeline.networks.weights_files import parse
from training.localizers.examples import Example
from training.localizers.settings import AugmentSettings, BoxDataSettings, LocalizerTrainingSettings
from training.localizers.tasks import RpnLiteTask
from training.localizers.train import Worker, train, train_watched

SETTINGS = LocalizerTrainingSettings(
    kind="dn-detr",
    data=BoxDataSettings(scenes=12, scenes_size=64, scenes_held_out=3),
    augment=AugmentSettings(canvas=64, min_side=60, max_side=80),
    shape=SetShape(
        queries=6, short_side=64, width=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=2
    ),
    steps=6,
    batch_images=2,
    warmup_steps=2,
    checkpoint_every=3,
    backbone="random",
    frozen_stages=7,
)


def weights(path):
    return parse(path.read_bytes(), path.name)[0]


def watch(step, numbers):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of an undisturbed run."""
    return weights(train(replace(SETTINGS, out=str(tmp_path_factory.mktemp("whole"))), Worker(), watch))


def test_a_run_that_stopped_and_resumed_equals_an_undisturbed_one(whole, tmp_path):
    broken = replace(SETTINGS, out=str(tmp_path))

    def stop(step, numbers):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, Worker(), stop)
    seen = []
    train(broken, Worker(), lambda step, numbers: seen.append(step))
    assert seen == [4, 5, 6]
    assert all(torch.equal(whole[k], v) for k, v in weights(tmp_path / "weights.safetensors").items())


def test_training_changes_the_head_and_not_the_frozen_backbone(whole, tmp_path):
    before = weights(train(replace(SETTINGS, steps=1, out=str(tmp_path)), Worker(), watch))
    assert all(torch.equal(before[n], whole[n]) for n in before if n.startswith("backbone."))
    assert not torch.equal(before["box_head.layers.0.weight"], whole["box_head.layers.0.weight"])


def test_only_the_first_worker_writes(tmp_path):
    settings = replace(SETTINGS, steps=2, out=str(tmp_path / "second"))
    train_watched(settings, Worker(index=1, count=1))
    assert not list((tmp_path / "second").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "yolo"}, "^kind: must be one of"),
        ({"steps": 0}, "^steps: must be at least 1"),
        ({"ema": 1.0}, "^ema:"),
        ({"lr": math.nan}, "^lr:"),
        ({"out": "s3://bucket/run"}, "^out: .*is a URL"),
    ],
)
def test_settings_that_make_no_sense_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)


def test_a_run_without_anything_to_learn_from_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^data: give data\.images"):
        train(replace(SETTINGS, data=BoxDataSettings(), out=str(tmp_path)), Worker(), lambda s, n: None)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_is_refused_before_the_weights_move(tmp_path, monkeypatch, where):
    settings = replace(SETTINGS, steps=3, out=str(tmp_path), checkpoint_every=1)
    real = torch.nn.utils.clip_grad_norm_
    from training.localizers import set_task

    if where == "loss":
        loss = set_task.set_loss
        monkeypatch.setattr(set_task, "set_loss", lambda *a: {k: v * math.inf for k, v in loss(*a).items()})
    else:
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, n: real(p, n) * math.nan)
    with pytest.raises(FloatingPointError, match=f"step 1: the {where}"):
        train(settings, Worker(), lambda s, n: None)
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.parametrize("kind", ["rpn-lite", "detr", "dab-detr", "dn-detr"])
def test_a_batch_without_any_object_reaches_every_parameter(kind):
    settings = replace(SETTINGS, kind=kind, frozen_stages=3)
    if kind == "rpn-lite":
        task = RpnLiteTask(settings)
    else:
        from training.localizers.set_task import SetTask

        task = SetTask(settings)
    empty = Example(
        np.zeros((64, 64, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)
    )
    losses = task.loss(task.network, [empty, empty], torch.Generator().manual_seed(0))
    torch.stack(list(losses.values())).sum().backward()
    assert all(math.isfinite(v) for v in map(float, losses.values()))
    assert not [n for n, p in task.network.named_parameters() if p.requires_grad and p.grad is None]
