"""jobs/train_localizer.py: trains, and its file loads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from jobs.train_localizer import main
from pipeline import localizers
from pipeline.localizers.settings import LocalizerSettings
from tests.training.localizers.test_train import SETTINGS
from training.localizers.settings import BoxDataSettings


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


def test_a_bad_flag_ends_with_code_2(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--kind", "yolo", "--data.scenes", "3"])
    assert error.value.code == 2
    assert '"kind": Expected' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.long
def test_two_ray_workers_train_and_write_one_file(tmp_path, ray_instance):
    from jobs.on_ray.training import train_localizer

    train_localizer(replace(SETTINGS, workers=2, steps=2, out=str(tmp_path)))
    assert (tmp_path / "weights.safetensors").exists()
    with pytest.raises(ValueError, match=r"data: give data\.images"):
        train_localizer(replace(SETTINGS, workers=2, data=BoxDataSettings(), out=str(tmp_path / "b")))
