"""What a device setting means on a cluster, and errors that a restart would meet again."""

from __future__ import annotations

import json

import pytest

ray = pytest.importorskip("ray")
from jobs.on_ray.training import ERROR_FILE, FINAL, Ranks, device_on, raise_noted  # noqa: E402


@pytest.mark.parametrize(
    ("device", "gpus", "want"),
    [("auto", 0, "cpu"), ("auto", 1, "cpu"), ("auto", 2, "cuda"), ("cpu", 8, "cpu"), ("cuda", 2, "cuda")],
)
def test_auto_is_a_gpu_for_each_rank_or_none(device, gpus, want):
    assert device_on({"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})}, Ranks(2, device)) == want


@pytest.mark.parametrize("name", FINAL)
def test_what_a_rank_noted_is_raised_on_the_driver(tmp_path, name):
    raise_noted(tmp_path)
    (tmp_path / ERROR_FILE).write_text(json.dumps([name, "what was wrong"]))
    with pytest.raises(FINAL[name], match="what was wrong"):
        raise_noted(tmp_path)
