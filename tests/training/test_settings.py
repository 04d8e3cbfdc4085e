"""Settings refuse what makes no sense, by their key, and need no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from training.localizers.settings import AugmentSettings, BoxDataSettings, DenoisingSettings
from training.settings import (
    DataSettings,
    LossSettings,
    OptimizerSettings,
    RunSettings,
    TrainSettings,
    ViewSettings,
)


@pytest.mark.parity(36)
def test_the_global_batch(preset):
    assert preset.data.batch_images == 96
    assert preset.data.batch_images * preset.run.steps == 57_600_000


@pytest.mark.parity(38)
def test_full_precision(preset):
    assert preset.optimizer.precision == "fp32"


@pytest.mark.parity(40)
def test_checkpoints_at_least_every_5000_steps(preset):
    assert preset.run.checkpoint_every <= 5000


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("data.subset", lambda: DataSettings("x", subset=0.0)),
        ("data.buffer_dir", lambda: DataSettings("x", buffer_dir="s3://bucket/buffer")),
        ("view.long_side", lambda: ViewSettings(short_side=10, long_side=5)),
        ("loss", lambda: LossSettings(contrast_weight=0, distill_weight=0, image_weight=0)),
        ("loss.image_weight", lambda: LossSettings(image_weight=-1)),
        ("loss.refo_stages", lambda: LossSettings(refo_stages=[0.5, 0.5])),
        ("optimizer.lr", lambda: OptimizerSettings(lr=float("nan"))),
        ("optimizer.accumulate", lambda: TrainSettings(optimizer=OptimizerSettings(accumulate=5))),
        ("run.evaluate_every", lambda: RunSettings(evaluate_every=5)),
        ("run.log_every", lambda: RunSettings(log_every=0)),
        ("run.out", lambda: RunSettings("s3://bucket/run")),
        ("run.out", lambda: RunSettings("memory://run")),
        ("run.out", lambda: RunSettings("simplecache::s3://bucket/run")),
        ("run.out", lambda: RunSettings("")),
        ("augment.canvas", lambda: AugmentSettings(canvas=100)),
        ("augment.flip", lambda: AugmentSettings(flip=2)),
        ("denoising.groups", lambda: DenoisingSettings(groups=-1)),
        ("data.images", lambda: BoxDataSettings(images="x")),
    ],
)
def test_settings_that_make_no_sense_are_named(key, change):
    with pytest.raises(ValueError, match=f"^{key}:"):
        change()


def test_settings_import_no_torch():
    code = "import sys; import training.settings, training.localizers.settings, training.teachers.settings; "
    code += "sys.exit(sum(name in sys.modules for name in ('torch', 'spacy', 'ray', 'pandas', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
