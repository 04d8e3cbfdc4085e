"""One connection to Ray: never to a cluster it was not told of, never to nodes with other libraries."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("ray")

from ray.exceptions import GetTimeoutError, RaySystemError

from jobs import cli
from jobs.on_ray import cluster
from pipeline.build import build
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        build(worlds.settings(root / "data", worlds.coco_folder(root / "input", 6)), LocalRunner())
    return str(root / "data")


def test_auto_is_refused(monkeypatch):
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ValueError, match="RAY_ADDRESS: 'auto'"):
        cluster.connect()


@pytest.mark.parametrize(
    ("argument", "environment", "joined"),
    [
        (None, None, "local"),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        ("10.0.0.2:6379", "10.0.0.1:6379", "10.0.0.2:6379"),
    ],
)
def test_the_address_is_the_one_it_was_told_or_a_private_ray(monkeypatch, argument, environment, joined):
    calls = []
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", lambda **options: calls.append(options))
    checked = []
    monkeypatch.setattr(cluster, "check_versions", lambda: checked.append(True))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    cluster.connect(argument)
    assert calls[0]["address"] == joined
    assert (calls[0].get("include_dashboard") is False) == (joined == "local")
    assert bool(checked) == (joined != "local")


@pytest.mark.parametrize(
    "error",
    [
        GetTimeoutError("not in time"),
        ConnectionError("Could not find any running Ray instance"),
        RuntimeError("Failed to start GCS"),
        Exception("The current node timed out during startup."),
        RaySystemError("System error"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["relabel", "DATASET", "--out", "OUT"], "--runtime=local"),
        (["build", "--config", "demo", "--out", "OUT"], "--runtime=local"),
        (
            ["train", "--config", "train_tiny", "--data.dataset", "DATASET", "--run.runtime", "ray"],
            "--run.runtime=local",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_ray_that_does_not_start_is_one_line_that_says_what_to_do(
    dataset, tmp_path, monkeypatch, capsys, command, flag, error
):
    def init(**_):
        raise error

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr("jobs.on_ray.training.open_data", lambda data: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    places = {"DATASET": dataset, "OUT": str(tmp_path / "out")}
    assert cli.main([places.get(word, word) for word in command]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"Ray did not start on this machine: {type(error).__name__}: " in line
    assert line.endswith(f"(the same command tries again; {flag} does the work in this process, without Ray)")


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    def init(**_):
        raise ConnectionError("no route")

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", init)
    with pytest.raises(cluster.NoRay, match=r"no Ray answers at 10\.0\.0\.1:6379: ConnectionError: no route"):
        cluster.connect("10.0.0.1:6379")


def test_a_worker_with_other_versions_refuses_by_name():
    cluster.check_here(cluster.versions())
    with pytest.raises(ValueError, match=r"torch is .*, the driver's is 0\.1"):
        cluster.check_here({**cluster.versions(), "torch": "0.1"})
    with pytest.raises(ValueError, match=r"spacy is .*, the driver's is missing"):
        cluster.check_here({**cluster.versions(), "spacy": None})


def test_versions_name_python_our_code_and_the_libraries():
    found = cluster.versions()
    assert sys.version.startswith(found["python"] + ".")
    assert {"code", "torch", "pillow", "spacy"} <= set(found)


@pytest.mark.ray
def test_every_node_is_asked(ray_instance, monkeypatch):
    cluster.check_versions()
    monkeypatch.setattr(cluster, "differences", lambda theirs, ours: [f"asked {theirs['python']}"])
    with pytest.raises(ValueError, match=r"node [\d.]+: asked 3\."):
        cluster.check_versions()


@pytest.mark.ray
def test_a_node_that_goes_while_it_is_asked_is_left_out(ray_instance, monkeypatch):
    nodes = cluster.ray.nodes()
    gone = {**nodes[0], "NodeID": "a" * len(nodes[0]["NodeID"])}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [gone, *nodes])
    cluster.check_versions()
    monkeypatch.setattr(cluster, "differences", lambda theirs, ours: [f"asked {theirs['python']}"])
    with pytest.raises(ValueError, match=r"^node [\d.]+: asked [\d.]+$"):  # the other one alone
        cluster.check_versions()


PRIVATE = """
import os, ray
from jobs.on_ray.cluster import connect
connect()
context = ray.get_runtime_context()
dashboard = ray._private.worker._global_node.webui_url or "no dashboard"
print("found", context.gcs_address, os.environ["RAY_AUTH_MODE"], dashboard)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_of_our_own_is_private_though_another_one_runs(ray_instance, tmp_path):
    """`ray.init()` would join the running one; `connect` starts its own, with a token and no dashboard."""
    running = ray_instance.get_runtime_context().gcs_address
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-1000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("found"))
    assert running not in line
    assert line.endswith("token no dashboard"), line
