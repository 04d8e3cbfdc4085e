"""jobs/train_localizer.py: trains, resumes to the same weights, and its file loads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.train_localizer import main, train_with_monitor
from pipeline import localizers
from pipeline.localizers.set_shape import SetShape
from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.weights_files import parse
from training.localizers.augment import AugmentSettings
from training.localizers.settings import BoxDataSettings, LocalizerTrainingSettings, validate
from training.localizers.train import Worker, train

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


def test_the_job_trains_writes_and_its_file_loads(tmp_path):
    assert (
        main(
            [
                *("--kind", "rpn-lite", "--out", str(tmp_path), "--backbone", "random", "--steps", "3"),
                *(
                    "--batch_images",
                    "2",
                    "--data.scenes",
                    "4",
                    "--data.scenes_size",
                    "64",
                    "--data.scenes_held_out",
                    "2",
                ),
                *("--augment.canvas", "64", "--augment.min_side", "64", "--augment.max_side", "96"),
            ]
        )
        == 0
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3
    assert {"objectness", "box", "loss", "scenes/ar100"} <= set(lines[-1])
    assert list((tmp_path / "tensorboard").iterdir())
    localizer = localizers.load(LocalizerSettings(checkpoint=str(tmp_path / "weights.safetensors")))
    assert len(localizer([np.zeros((64, 64, 3), np.uint8)])[0].objectness) >= 1


def test_a_run_that_stopped_and_resumed_equals_an_undisturbed_one(tmp_path):
    whole = replace(SETTINGS, out=str(tmp_path / "whole"))
    train(whole, Worker(), lambda step, numbers: None)

    broken = replace(SETTINGS, out=str(tmp_path / "broken"))

    def stop(step, numbers):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, Worker(), stop)
    seen = []
    train(broken, Worker(), lambda step, numbers: seen.append(step))
    assert seen == [4, 5, 6]
    first, second = (weights(tmp_path / name / "weights.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_changes_the_head_and_not_the_frozen_backbone(tmp_path):
    short, long = (replace(SETTINGS, steps=n, out=str(tmp_path / str(n))) for n in (1, 6))
    before, after = (weights(train(s, Worker(), lambda step, numbers: None)) for s in (short, long))
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith("backbone."))
    assert not torch.equal(before["box_head.layers.0.weight"], after["box_head.layers.0.weight"])


def test_only_the_first_worker_writes(tmp_path):
    settings = replace(SETTINGS, steps=2, out=str(tmp_path / "second"))
    train_with_monitor(settings, Worker(index=1, count=2), 0)
    assert not list((tmp_path / "second").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "yolo"}, "kind: must be one of"),
        ({"data": BoxDataSettings()}, "data: give"),
        ({"data": BoxDataSettings(images="x")}, "give both or neither"),
        ({"steps": 0}, "steps: must be at least 1"),
        ({"ema": 1.0}, "ema"),
        ({"augment": AugmentSettings(canvas=100)}, "multiple of 32"),
    ],
)
def test_bad_settings_are_one_line(change, message):
    with pytest.raises(ValueError, match=message):
        validate(replace(SETTINGS, **change))


def test_a_bad_flag_ends_with_code_2(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--kind", "yolo", "--data.scenes", "3"])
    assert error.value.code == 2
    assert "kind: must be one of" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
def test_two_ray_workers_train_and_write_one_file(tmp_path):
    pytest.importorskip("ray")
    import ray

    from jobs.train_localizer import train_on_ray

    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        train_on_ray(replace(SETTINGS, workers=2, steps=2, out=str(tmp_path)))
    finally:
        if started:
            ray.shutdown()
    assert (tmp_path / "weights.safetensors").exists()
