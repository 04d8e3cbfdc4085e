"""The training job on a dataset that the build job made: alone, told to stop, on Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing

from concept_pool.settings import PoolSettings
from jobs.arguments import parse
from jobs.demo import head
from jobs.train_student import main
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings
from tests.training.test_train import assert_same_run, rows
from training.settings import TrainSettings
from training.train import train

ROOT = Path(__file__).parents[2]
CONFIG = "train_tiny"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("job") / "dataset"
    build(
        BuildSettings(
            out=str(out),
            runtime="local",
            source=SourceSettings(kind="shapes", count=32, size=96),
            localizer=LocalizerSettings(kind="grid", max_proposals=14),
            teacher=TeacherSettings(kind="shapes"),
            pool=PoolSettings(min_count=1),
            align=AlignSettings(region_embeddings="int8"),
            samples_per_shard=16,
            workers=1,
        ),
        LocalRunner(),
    )
    return out


def _flags(dataset: Path, out: Path, **changes: object) -> list[str]:
    flags = {
        "data.dataset": dataset, "run.out": out, "data.batch_images": 8, "run.epochs": 0, "run.steps": 6,
        "run.log_every": 1, "run.log_keys": "true", "run.evaluate_every": 0, "run.tensorboard": "false",
        "run.checkpoint_every": 2, **changes,
    }  # fmt: skip
    return ["--config", CONFIG, *(f"--{k}={v}" for k, v in flags.items())]


@pytest.mark.parity(46)
def test_what_the_build_writes_the_trainer_reads(dataset, tmp_path, capsys):
    assert main(_flags(dataset, tmp_path / "run", **{"run.steps": 12})) == 0
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in metrics] == list(range(1, 13))
    assert all(r[name] > 0 for r in metrics for name in ("contrast", "distill", "image", "regions"))
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    keys = {k for r in rows(tmp_path / "run" / "keys.jsonl") for k in r["keys"]}
    assert 24 <= len(keys) <= 32
    assert "12 of 12" in capsys.readouterr().out


@pytest.mark.parametrize("distill", ["global-local", "feature"])
def test_the_distillation_family_by_one_setting(dataset, tmp_path, distill):
    assert main(_flags(dataset, tmp_path / "run", **{"loss.distill": distill, "run.log_keys": "false"})) == 0
    assert (tmp_path / "run" / "student.safetensors").exists()


def test_wrong_settings_are_one_line_and_exit_code_2(dataset, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(_flags(dataset, tmp_path / "a", **{"data.subset": 2}))
    assert error.value.code == 2
    assert "data.subset" in capsys.readouterr().err
    assert main(_flags(tmp_path / "nowhere", tmp_path / "b")) == 2
    assert "is no dataset" in capsys.readouterr().err
    assert main(_flags(dataset, tmp_path / "c", **{"data.batch_images": 7, "run.steps": 1})) == 0
    assert main(_flags(dataset, tmp_path / "c", **{"run.seed": 1, "run.steps": 9})) == 2
    error = capsys.readouterr().err
    assert "data.batch_images was 7, is 8; run.seed was 0, is 1" in error


def test_sigterm_saves_and_the_same_command_goes_on(dataset, tmp_path):
    steps = {"run.steps": 12, "run.checkpoint_every": 1000}
    main(_flags(dataset, tmp_path / "whole", **steps))
    out = tmp_path / "stopped"
    job = get_context("fork").Process(target=lambda: sys.exit(main(_flags(dataset, out, **steps))))
    job.start()
    while not (out / "metrics.jsonl").exists() or len(rows(out / "metrics.jsonl")) < 2:
        time.sleep(0.01)
        assert job.is_alive()
    job.terminate()
    job.join(timeout=60)
    assert job.exitcode == 128 + signal.SIGTERM
    assert not (out / "student.safetensors").exists()
    assert main(_flags(dataset, out, **steps)) == 0
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.ray
@pytest.mark.slow
def test_two_ranks_on_ray_train_give_the_same_student(dataset, tmp_path, ray_instance):
    alone, ranks = tmp_path / "alone", tmp_path / "ranks"
    assert main(_flags(dataset, alone, **{"run.steps": 3})) == 0
    on_ray = {"run.steps": 3, "run.runtime": "ray", "run.ranks": 2, "run.cpus_per_rank": 0.5}
    assert main(_flags(dataset, ranks, **on_ray)) == 0
    assert [r["loss"] for r in rows(ranks / "metrics.jsonl")] == pytest.approx(
        [r["loss"] for r in rows(alone / "metrics.jsonl")], rel=1e-3
    )
    one, two = load_file(alone / "student.safetensors"), load_file(ranks / "student.safetensors")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-3, rtol=1e-2, msg=key)
    assert json.loads((ranks / "summary.json").read_text())["finished"]


def _train_on_one_of_two_ranks(index: int, rendezvous: str, flags: list[str]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=index, world_size=2)
    train(parse(TrainSettings, flags))


def _processes(token: str) -> dict[int, list[str]]:
    """Process id -> command line, of all that the Ray head with this token started."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if token in (entry / "environ").read_text(errors="replace"):
                found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
        except (OSError, ValueError):
            continue
    return found


def _wait(condition, submitted: subprocess.Popen, seconds: float = 200):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        assert submitted.poll() is None, submitted.communicate()[0]
        time.sleep(0.05)
    raise TimeoutError


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.slow
def test_a_submitted_training_survives_a_killed_worker_and_a_sigterm(dataset, tmp_path):
    """`ray job submit` on two ranks: a worker is killed, then the driver is told to stop, then the same line again."""
    steps = {"run.steps": 80, "run.checkpoint_every": 5}
    whole, out = tmp_path / "whole", tmp_path / "submitted"
    multiprocessing.spawn(
        _train_on_one_of_two_ranks, (str(tmp_path / "rendezvous"), _flags(dataset, whole, **steps)), nprocs=2
    )
    flags = _flags(dataset, out, **steps, **{"run.runtime": "ray", "run.ranks": 2, "run.cpus_per_rank": 0.5})

    def step() -> int:
        return len(rows(out / "keys.jsonl")) if (out / "keys.jsonl").exists() else 0

    with head() as (address, environment):
        token = environment["RAY_AUTH_TOKEN"]

        def workers() -> set[int]:
            return {p for p, words in _processes(token).items() if "RayTrainWorker" in words[0]}

        submit = ["ray", "job", "submit", "--address", address, "--working-dir", str(ROOT), "--"]
        submit += ["python", "jobs/train_student.py", *flags]
        first = subprocess.Popen(submit, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        _wait(lambda: step() >= 7, first)
        before = workers()
        assert len(before) == 2
        os.kill(max(before), signal.SIGKILL)
        _wait(lambda: len(workers() - before) == 2 and 6 <= step() < 70, first)
        job = ["python", "jobs/train_student.py", *flags]
        (driver,) = (p for p, words in _processes(token).items() if words[: len(job)] == job)
        os.kill(driver, signal.SIGTERM)
        log = first.communicate(timeout=200)[0]
        assert "failed with exit code 143" in log, log
        assert not (out / "student.safetensors").exists()
        again = subprocess.run(submit, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stdout
    assert_same_run(whole, out)
