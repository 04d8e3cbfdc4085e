"""A cluster that grows and shrinks on this machine (`benchmarks/fake_cluster.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fake_nodes import configuration

ROOT = Path(__file__).resolve().parents[3]


def test_its_node_types_are_those_of_the_cluster_file():
    types = configuration("127.0.0.1:1")["available_node_types"]
    assert types["ray.head.default"]["resources"] == {"CPU": 0}
    assert types["gpu_worker"]["min_workers"] == 0
    assert types["gpu_worker"]["resources"]["GPU"] == 1
    assert types["cpu_worker"]["min_workers"] == 1
    assert "GPU" not in types["cpu_worker"]["resources"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_gpu_nodes_rise_from_zero_and_go_and_lost_ones_change_no_byte_and_no_weight(tmp_path):
    command = [sys.executable, "-m", "benchmarks.fake_cluster", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    before, most, after = found["gpu_nodes"]
    assert (before, after) == (0, 0)
    assert most > 0
    built = found["built"]
    assert built["same_bytes"], built["differ"]
    assert 0 < built["parts_then"] < built["parts"]
    assert found["relabelled_same_bytes"]
    assert found["studied_same"]
    trained = found["trained"]
    assert trained["same_weights"]
    assert trained["same_losses"]
    assert 5 <= trained["least_after"] <= trained["step_then"] < trained["steps"]  # not from the beginning
    ours = {"Read", "Annotate", "Commit", "ReadShard", "Relabel", "RayTrainWorker"}
    assert not ours & set(found["actors_on_head"])  # Ray's own, of no CPU, may be there
    assert found["nodes"]["head"] == 1
    assert found["refused"]["code"] == 1
    assert "4 GPU a worker, and no node has that much" in found["refused"]["said"][0]
    assert (tmp_path / "fake_cluster.csv").read_text().startswith("s,head,cpu_worker,gpu_worker\n")
