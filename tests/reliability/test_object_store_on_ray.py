"""The whole way through a failing object store by several processes of Ray."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline.build import build
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from tests.reliability.conftest import comparable, files, objects, upload
from tests.reliability.test_object_store import OTHER, same_keys, settings_of

STORY = Path(__file__).with_name("ray_story.py")


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.slow
def test_ray_and_a_failing_object_store_give_the_bytes_of_a_local_disk(
    tmp_path, input_folder, s3, faulty, monkeypatch
):
    settings = settings_of(str(tmp_path / "local"), str(input_folder), samples_per_shard=3)
    build(settings, LocalRunner())
    relabel(
        settings.out, dataclasses.replace(settings, out=f"{tmp_path}/relabelled", align=OTHER), LocalRunner()
    )
    upload(s3, input_folder, "ray/input")
    server = faulty(seed=7, share=0.1, stall_share=0.002)
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a machine with much to do
    command = [sys.executable, "-m", "tests.reliability.ray_story", "s3://bucket/ray", str(tmp_path)]
    done = subprocess.run(
        command, cwd=STORY.parents[2], capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "interrupted" in done.stdout
    assert "built " in done.stdout
    assert comparable(objects(s3, "ray/pairs")) == comparable(files(tmp_path / "local"))
    assert comparable(objects(s3, "ray/relabelled")) == comparable(files(tmp_path / "relabelled"))
    assert list(verify("s3://bucket/ray/pairs")) == []
    assert list(verify("s3://bucket/ray/relabelled")) == []
    one, two = (load_file(tmp_path / f"student-{n}" / "student.safetensors") for n in ("s3", "local"))
    assert all(one[k].equal(v) for k, v in two.items())
    same_keys(tmp_path / "student-s3", tmp_path / "student-local")
    assert sum(server.injected.values()) > 20
    print(dict(server.injected), done.stdout)
