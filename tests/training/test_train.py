"""The loop: learning, resuming, stopping, watching, and what a finished run leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from training.checkpoint import checkpoint_steps, read_best
from training.settings import (
    DataSettings,
    LossSettings,
    OptimizerSettings,
    RunSettings,
    TrainSettings,
    ViewSettings,
)
from training.train import train
from training.trainer import Hooks


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "d", shards=3, per_shard=8)


def make_settings(dataset: Path, out: Path, **run) -> TrainSettings:
    return TrainSettings(
        data=DataSettings(str(dataset), batch_images=4, workers=0, window_shards=2, cache_images=True),
        view=ViewSettings(short_side=32, long_side=64, max_regions=4),
        optimizer=OptimizerSettings(lr=3e-3, warmup_steps=2),
        run=RunSettings(
            str(out),
            **{
                "steps": 12,
                "threads": 1,
                "device": "cpu",
                "log_every": 1,
                "log_keys": True,
                "checkpoint_every": 3,
                "tensorboard": False,
                **run,
            },
        ),
    )


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_run(a: Path, b: Path) -> None:
    assert rows(a / "keys.jsonl") == rows(b / "keys.jsonl")
    one, two = load_file(a / "student.safetensors"), load_file(b / "student.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    noted = ("step", "loss", "contrast", "distill", "image", "lr")
    assert [[r.get(k) for k in noted] for r in rows(a / "metrics.jsonl")] == [
        [r.get(k) for k in noted] for r in rows(b / "metrics.jsonl")
    ]


def test_losses_fall_and_the_summary_says_what_happened(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path / "run", steps=60, log_every=5, tensorboard=True)
    summary = train(settings, tiny_student())
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["step"] == 60
    assert summary["finished"]
    assert summary["images_per_s"] > 0
    assert 0 <= summary["data_wait_share"] < 1
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_epochs_set_the_number_of_steps(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path / "run", steps=0, epochs=1.5)
    assert train(settings, tiny_student())["n_steps"] == 9
    keys = [k for r in rows(tmp_path / "run" / "keys.jsonl")[:6] for k in r["keys"]]
    assert len(set(keys)) == 24


class Killed(Exception):
    pass


@pytest.mark.parity(40)
@pytest.mark.parametrize("kills", [(1, 7), (3, 3, 5)])
def test_killed_and_resumed_equals_undisturbed(dataset, tmp_path, kills):
    train(make_settings(dataset, tmp_path / "whole"), tiny_student(freeze_batchnorm=False))

    def killed_after(n: int):
        count = iter(range(n))

        def stop() -> bool:
            if next(count, None) is None:
                raise Killed
            return False

        return stop

    settings = make_settings(dataset, tmp_path / "killed")
    for n in kills:
        with pytest.raises(Killed):
            train(settings, tiny_student(freeze_batchnorm=False), Hooks(stop=killed_after(n)))
    assert train(settings, tiny_student(seed=5, freeze_batchnorm=False))["finished"]
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_stop_saves_and_the_next_run_goes_on(dataset, tmp_path):
    train(make_settings(dataset, tmp_path / "whole"), tiny_student())
    settings = make_settings(dataset, tmp_path / "stopped", checkpoint_every=100)
    asked = iter([False] * 4 + [True])
    summary = train(settings, tiny_student(), Hooks(stop=lambda: next(asked)))
    assert (summary["step"], summary["finished"]) == (5, False)
    assert not (tmp_path / "stopped" / "student.safetensors").exists()
    train(settings, tiny_student())
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    again = train(settings, tiny_student())
    assert again["step"] == 12
    with pytest.raises(ValueError, match=r"run\.out"):
        train(replace(settings, run=replace(settings.run, resume="never")), tiny_student())


def test_the_last_and_the_best_checkpoints_are_kept(dataset, tmp_path):
    scores = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.0, 10: 1.5, 12: 9.0}
    settings = make_settings(
        dataset, tmp_path / "run", evaluate_every=2, held_out=0.2, checkpoint_every=2, keep_last=2
    )
    summary = train(settings, tiny_student(), Hooks(evaluate=lambda model, step: {"score": scores[step]}))
    folder = tmp_path / "run" / "checkpoints"
    assert checkpoint_steps(folder) == [4, 10, 12]
    assert read_best(folder).step == 4
    assert summary["evaluation_score"] == 9.0
    (folder / ".tmp-dead").mkdir()
    train(
        replace(settings, run=replace(settings.run, steps=14)),
        tiny_student(),
        Hooks(evaluate=lambda m, s: {"score": 5.0}),
    )
    assert checkpoint_steps(folder) == [4, 12, 14]
    assert not list(folder.glob(".tmp-*"))


def test_held_out_loss_is_the_default_score(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path / "run", evaluate_every=6, held_out=0.3)
    train(settings, tiny_student())
    scored = [r for r in rows(tmp_path / "run" / "metrics.jsonl") if "evaluation/score" in r]
    assert [r["step"] for r in scored] == [6, 12]
    assert scored[1]["evaluation/score"] < scored[0]["evaluation/score"]


def test_a_view_does_not_depend_on_the_cache(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path / "cached")
    train(settings, tiny_student())
    plain = replace(settings, data=replace(settings.data, cache_images=False, workers=1))
    train(replace(plain, run=replace(settings.run, out=str(tmp_path / "plain"))), tiny_student())
    assert_same_run(tmp_path / "cached", tmp_path / "plain")


def test_micro_batches_average_to_the_step_for_losses_that_are_means(tmp_path):
    every_region = make_dataset(tmp_path / "data", threshold=-1.0)
    settings = replace(
        make_settings(every_region, tmp_path / "one", steps=4),
        loss=LossSettings(contrast_weight=0.0, image_weight=0.0),
    )
    train(settings, tiny_student())
    accumulated = replace(settings.optimizer, accumulate=4)
    run = replace(settings.run, out=str(tmp_path / "four"))
    train(replace(settings, optimizer=accumulated, run=run), tiny_student())
    one, four = (rows(tmp_path / n / "metrics.jsonl") for n in ("one", "four"))
    assert rows(tmp_path / "one" / "keys.jsonl") == rows(tmp_path / "four" / "keys.jsonl")
    for a, b in zip(one, four, strict=True):
        assert b["distill"] == pytest.approx(a["distill"], rel=1e-3)


def test_leaving_out_what_is_not_kept_changes_no_loss(dataset, tmp_path):
    settings = make_settings(dataset, tmp_path / "dropped", steps=5)
    train(settings, tiny_student())
    every = replace(settings.view, drop_unkept=False)
    run = replace(settings.run, out=str(tmp_path / "every"))
    train(replace(settings, view=every, run=run), tiny_student())
    dropped, whole = (rows(tmp_path / n / "metrics.jsonl") for n in ("dropped", "every"))
    for a, b in zip(dropped, whole, strict=True):
        for name in ("loss", "contrast", "distill", "image", "regions"):
            assert a[name] == pytest.approx(b[name], rel=1e-3)


@pytest.mark.parity(21)
@pytest.mark.parametrize("drop", [True, False])
def test_a_dataset_that_keeps_nothing_trains_on_images_or_on_all(tmp_path, drop):
    nothing = make_dataset(tmp_path / "d", shards=1, threshold=2.0)
    settings = make_settings(nothing, tmp_path / "run", steps=3)
    train(replace(settings, view=replace(settings.view, drop_unkept=drop)), tiny_student())
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert all((r["regions"] == 0) == drop for r in metrics)
    assert all(r["loss"] > 0 for r in metrics)  # and no NaN


@pytest.mark.parametrize("distill", ["global-local", "feature"])
def test_the_distillation_family_learns(dataset, tmp_path, distill):
    settings = make_settings(dataset, tmp_path / "run", steps=60)
    settings = replace(settings, loss=LossSettings(distill=distill))
    assert train(settings, tiny_student())["finished"]
    folder = tmp_path / "run" / "stage-2" if distill == "feature" else tmp_path / "run"
    metrics = rows(folder / "metrics.jsonl")
    name = "feature" if distill == "feature" else "local"
    first, last = ([r[name] for r in part] for part in (metrics[:5], metrics[-5:]))
    assert sum(last) < 0.95 * sum(first)
    assert (tmp_path / "run" / "student.safetensors").exists()


def test_embeddings_that_are_not_stored_are_asked_for(tmp_path):
    bare = make_dataset(tmp_path / "bare", shards=1, embeddings=False)
    settings = replace(make_settings(bare, tmp_path / "run"), loss=LossSettings(distill="global-local"))
    with pytest.raises(ValueError, match=r"align\.region_embeddings"):
        train(settings, tiny_student())


@pytest.mark.parity(38)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_follows_full_precision(dataset, tmp_path, precision):
    settings = make_settings(dataset, tmp_path / "fp32", steps=20)
    train(settings, tiny_student())
    mixed = replace(settings.optimizer, precision=precision)
    train(
        replace(settings, optimizer=mixed, run=replace(settings.run, out=str(tmp_path / "amp"))),
        tiny_student(),
    )
    full, half = (rows(tmp_path / n / "metrics.jsonl") for n in ("fp32", "amp"))
    for a, b in zip(full, half, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=0.05, abs=0.05)


@pytest.mark.parity(33)
def test_what_is_frozen_stays(dataset, tmp_path):
    student = tiny_student(freeze=["stem"], freeze_batchnorm=True)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    train(make_settings(dataset, tmp_path / "run"), student)
    changed = {k for k, v in student.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"encoder.{k}" for k in ("body.weight", "body.bias", "head.weight", "head.bias")}
    with pytest.raises(ValueError, match="no parameter is named nothing"):
        tiny_student(freeze=["nothing"])


def test_a_run_without_a_dataset_is_named():
    with pytest.raises(ValueError, match=r"^data\.dataset: is empty"):
        train(TrainSettings())


def test_a_student_of_another_width_than_the_concepts_is_refused_in_one_line(dataset, tmp_path):
    student = tiny_student()
    student.encoder.dim += 1
    with pytest.raises(
        ValueError, match=r"student\.encoder: it embeds in .* numbers, the dataset's concepts in"
    ):
        train(make_settings(dataset, tmp_path / "run"), student=student)
