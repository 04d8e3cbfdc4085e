"""Pools of actors: lost workers, resources that nobody has, and how little the driver holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("ray")

from jobs.on_ray import build as ray_build
from jobs.on_ray.build import RayRunner
from jobs.on_ray.pools import Pipeline
from pipeline import stages
from pipeline.build import Incomplete, build
from pipeline.dataset.verify import verify
from pipeline.run_local import LocalRunner
from pipeline.stages import Annotate
from pipeline.teachers.settings import TeacherSettings
from tests.pipeline import worlds


class DiesOnce(Annotate):
    """The process that gets the first part ends at once, as when its node is taken away."""

    def __init__(self, job):
        super().__init__(job)
        self._flag = Path(job.out + ".died")

    def __call__(self, payload):
        if not self._flag.exists():
            self._flag.touch()
            os._exit(1)
        return super().__call__(payload)


class Dies(Annotate):
    def __call__(self, payload):
        if payload.part.name.startswith("000001"):
            os._exit(1)
        return super().__call__(payload)


@pytest.fixture
def source(tmp_path):
    return worlds.coco_folder(tmp_path / "input", 20)


@pytest.mark.ray
def test_parts_of_a_worker_that_died_are_done_again_to_the_same_bytes(
    tmp_path, source, ray_instance, monkeypatch
):
    build(worlds.settings(tmp_path / "local", source), LocalRunner())
    read, _, commit = stages.BUILD
    monkeypatch.setattr(stages, "BUILD", (read, DiesOnce, commit))
    build(worlds.settings(tmp_path / "ray", source, runtime="ray", workers=1), RayRunner())
    assert (tmp_path / "ray.died").exists()
    assert worlds.hashes(tmp_path / "ray") == worlds.hashes(tmp_path / "local")
    assert list(verify(str(tmp_path / "ray"))) == []


@pytest.mark.ray
@pytest.mark.long
def test_a_part_that_ends_every_worker_is_named_and_the_others_are_committed(
    tmp_path, source, ray_instance, monkeypatch
):
    read, _, commit = stages.BUILD
    monkeypatch.setattr(stages, "BUILD", (read, Dies, commit))
    with pytest.raises(Incomplete, match=r"1 of 4 parts failed.*000001.*lost its worker 3 times"):
        build(worlds.settings(tmp_path / "ray", source, runtime="ray", workers=1), RayRunner())
    assert len(list((tmp_path / "ray" / "manifest").glob("*.json"))) == 3


@pytest.mark.ray
def test_what_no_node_has_ends_the_job_with_a_line_that_says_so(tmp_path, source, ray_instance, monkeypatch):
    monkeypatch.setattr(RayRunner, "call", lambda self, settings, function, *rest: function(*rest))
    monkeypatch.setattr(ray_build, "gpus_of", lambda settings: 1.0)
    settings = worlds.settings(tmp_path / "ray", source, runtime="ray", no_progress_s=8.0)
    with pytest.raises(Incomplete, match=r"compute asks for .*1 GPU a worker, and no node has that much"):
        build(settings, RayRunner())


@pytest.mark.ray
def test_a_pool_that_no_node_can_embed_ends_the_job_with_a_line_that_says_so(
    tmp_path, source, ray_instance, monkeypatch
):
    monkeypatch.setattr(ray_build, "gpus_of", lambda settings: 4.0)
    settings = worlds.settings(tmp_path / "ray", source, runtime="ray", no_progress_s=3.0)
    with pytest.raises(Incomplete, match=r"1 CPU and 4 GPU a worker, and no node has that much"):
        RayRunner().call(settings, pytest.fail, "never runs")


@pytest.mark.ray
def test_tasks_that_find_no_cpu_end_the_job_with_a_line_that_says_so(ray_instance):
    import ray

    holder = ray.remote(num_cpus=int(ray.cluster_resources()["CPU"]))(_Holder).remote()
    ray.get(holder.__ray_ready__.remote())
    try:
        with pytest.raises(
            Incomplete, match=r"a task asks for 1 CPU a worker, and every node that has it is taken"
        ):
            next(RayRunner(no_progress_s=3.0).map(str, [1]))
    finally:
        ray.kill(holder)


class _Holder:
    """Holds what it reserved."""


@pytest.mark.ray
def test_auto_means_cpus_on_a_cluster_without_a_gpu(ray_instance):
    settings = worlds.settings(
        Path("/nowhere"), worlds.SourceSettings(), teacher=TeacherSettings(device="auto")
    )
    assert ray_build.gpus_of(settings) == 0
    assert ray_build.default_workers(settings) == 2


class _Pool:
    """A pool whose workers are done with a part as soon as they have it."""

    def __init__(self, name, n):
        self.name, self.n_ready, self.flight = name, n, 2
        self.workers, self.queue = [None] * n, []


def test_the_parts_on_their_way_follow_the_annotators_and_not_the_plan():
    pools = [_Pool("read", 2), _Pool("compute", 3), _Pool("write", 1)]
    pipeline = Pipeline(pools, 1, 10.0)
    items = iter(range(100_000))
    pipeline._feed(items)
    assert len(pools[0].queue) == pipeline.room == 3 * 3 + 3
    assert next(items) == pipeline.room
