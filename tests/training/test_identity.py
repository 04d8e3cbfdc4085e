"""A run is gone on with under the settings it was begun with, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import make_settings
from training.identity import FREE, LENGTH, identity
from training.settings import LossSettings, TrainSettings
from training.train import train
from training.trainer import Hooks


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "d", shards=2, per_shard=8)


def _stopped(settings: TrainSettings) -> None:
    asked = iter([False, True])
    assert not train(settings, tiny_student(), Hooks(stop=lambda: next(asked)))["finished"]


@pytest.mark.parametrize(
    ("room", "change", "line"),
    [
        ("optimizer", {"weight_decay": 0.5}, r"optimizer\.weight_decay was 0\.05, is 0\.5"),
        (
            "loss",
            {"tau": 0.5, "contrast_weight": 7.0},
            r"contrast_weight was 1\.0, is 7\.0; loss\.tau was 0\.0, is 0\.5",
        ),
        ("data", {"batch_images": 8}, r"data\.batch_images was 4, is 8"),
        ("view", {"flip": "never"}, r"view\.flip was 'unsided', is 'never'"),
        ("run", {"seed": 1}, r"run\.seed was 0, is 1"),
        ("run", {"held_out": 0.5}, r"run\.held_out was 0\.0, is 0\.5"),
    ],
)
def test_other_settings_are_refused_with_what_differs(dataset, tmp_path, room, change, line):
    settings = make_settings(dataset, tmp_path)
    _stopped(settings)
    changed = replace(settings, **{room: replace(getattr(settings, room), **change)})
    with pytest.raises(ValueError, match=f"^run.out: cannot resume: .*{line}$"):
        train(changed, tiny_student())
    assert train(settings, tiny_student())["finished"]


def test_where_and_how_fast_may_change_and_a_run_may_be_made_longer(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path)
    _stopped(settings)
    free = replace(
        settings,
        data=replace(settings.data, workers=1, prefetch=2, cache_images=False, bad_budget=0.5),
        run=replace(
            settings.run, steps=14, log_every=3, checkpoint_every=2, keep_last=9, ranks=1, max_failures=1
        ),
    )
    assert train(free, tiny_student())["step"] == 14


def test_refo_keeps_its_length_since_its_stages_are_shares_of_it(dataset, tmp_path):
    settings = replace(make_settings(dataset, tmp_path), loss=LossSettings(distill="feature"))
    _stopped(settings)
    with pytest.raises(ValueError, match=r"run\.steps was 4, is 6"):
        train(replace(settings, run=replace(settings.run, steps=20)), tiny_student())


def test_another_dataset_is_refused(dataset, tmp_path):
    import json

    other = make_dataset(tmp_path / "other", shards=2, per_shard=8)
    for row in (other / "manifest").iterdir():
        row.write_text(json.dumps({**json.loads(row.read_text()), "fingerprint": "b" * 64}))
    _stopped(make_settings(dataset, tmp_path / "run"))
    with pytest.raises(ValueError, match="cannot resume: fingerprint was"):
        train(make_settings(other, tmp_path / "run"), tiny_student())


def test_every_free_key_is_a_setting():
    known = set()
    for room, values in vars(TrainSettings()).items():
        for key, value in vars(values).items():
            known |= (
                {f"{room}.{key}.{k}" for k in vars(value)}
                if hasattr(value, "__dict__")
                else {f"{room}.{key}"}
            )
    assert known >= FREE | LENGTH
    options = {"student.encoder.options"}  # a dict of its own: its keys count, and it has none
    assert set(identity(TrainSettings())) == known - FREE - LENGTH - options


def test_initial_weights_count_by_their_content(tmp_path):
    def of(name: str, content: bytes) -> dict:
        (tmp_path / name).write_bytes(content)
        settings = TrainSettings()
        return identity(replace(settings, student=replace(settings.student, checkpoint=str(tmp_path / name))))

    assert of("a", b"1") == of("b", b"1")
    assert of("a", b"1") != of("a", b"2")
