"""What a run on Ray tells: series for Prometheus under our own names, the same in the log and in summary.json."""

from __future__ import annotations

import re
import time
import urllib.request
from collections import defaultdict

import pytest

pytest.importorskip("ray")

from jobs.demo import free_port
from jobs.on_ray import metrics as module
from jobs.on_ray.build import RayRunner
from jobs.on_ray.metrics import Metrics
from pipeline.build import build
from pipeline.dataset.plan import Part
from pipeline.stages.chain import Payload
from tests.pipeline import worlds

#: Series and their tags.
SERIES = {
    "parts": "outcome", "images": "outcome", "stage_seconds": "stage", "stage_images": "stage", "workers": "stage",
    "waiting_parts": "stage", "images_per_s": "stage", "busy_share": "stage", "object_store_bytes": "",
}  # fmt: skip


class Series:
    """Stands in for Ray's counters and gauges."""

    found: dict[str, dict[str, float]]

    def __init__(self, name, description, tag_keys=()):
        self.name, self.tag_keys = name, tag_keys

    def inc(self, value, tags):
        assert value > 0
        self.found[self.name][",".join(tags.values())] += value

    def set(self, value, tags=None):
        self.found[self.name][",".join((tags or {}).values())] = value


@pytest.fixture
def series(monkeypatch):
    monkeypatch.setattr(Series, "found", defaultdict(lambda: defaultdict(float)), raising=False)
    monkeypatch.setattr(module, "Counter", Series)
    monkeypatch.setattr(module, "Gauge", Series)
    return Series.found


def payload(n_samples: int, n_rejected: int, seconds: dict[str, float], error: str = "") -> Payload:
    start = Payload.start(Part("000000-" + 12 * "0", 0, 0, "", 1, 1))
    row = {"n_samples": n_samples, "n_rejected": n_rejected, "n_read": n_samples + n_rejected}

    class Done(Payload):
        @property
        def row(self):
            return row

    return Done(start.part, start.table, start.rejects, seconds, error)


def test_rates_and_busy_shares_are_those_since_the_last_update(series):
    now = [100.0]
    told = Metrics(lambda: now[0])
    stages = {"read": {"workers": 1, "waiting": 0}, "compute": {"workers": 2, "waiting": 3}}
    told.add(payload(8, 2, {"read": 0.5, "compute": 6.0}))
    told.add(payload(0, 0, {}, error="lost"))
    told.show(stages, lambda: 1234)
    assert "regionpairs_workers" not in series  # too early
    now[0] += 4
    told.show(stages, lambda: 1234)
    assert series["regionpairs_parts"] == {"committed": 1, "failed": 1}
    assert series["regionpairs_images"] == {"written": 8, "rejected": 2}
    assert series["regionpairs_stage_seconds"] == {"read": 0.5, "compute": 6.0}
    assert series["regionpairs_stage_images"] == {"read": 10, "compute": 10}
    assert series["regionpairs_workers"] == {"read": 1, "compute": 2}
    assert series["regionpairs_waiting_parts"] == {"read": 0, "compute": 3}
    assert series["regionpairs_images_per_s"] == {"read": 2.5, "compute": 2.5}
    assert series["regionpairs_busy_share"] == {"read": 0.125, "compute": 0.75}
    assert series["regionpairs_object_store_bytes"] == {"": 1234}
    now[0] += 4
    told.show(stages, lambda: 0)
    assert series["regionpairs_images_per_s"] == {"read": 0, "compute": 0}
    assert set(series) == {f"regionpairs_{name}" for name in SERIES}


@pytest.mark.ray
def test_the_summary_of_a_run_on_ray_tells_of_each_stage_and_of_the_object_store(tmp_path, ray_instance):
    held = ray_instance.put(bytes(5 << 20))  # something lies in it
    source = worlds.coco_folder(tmp_path / "input", 8)
    runner = RayRunner()
    deadline = time.monotonic() + 10
    while runner.stored_bytes() < 5 << 20 and time.monotonic() < deadline:
        time.sleep(0.2)  # nodes report every so often
    run = build(worlds.settings(tmp_path / "out", source, runtime="ray", workers=1), runner)["last_run"]
    assert run["object_store_bytes"] >= 5 << 20
    for name in ("read", "compute", "write"):
        stage = run["stages"][name]
        assert stage["images_per_s"] > 0, name
        assert 0 < stage["busy_share"] <= 1, name
        assert stage["waiting"] == 0, name
        assert stage["most_workers"] >= 1, name
    del held


@pytest.mark.ray
@pytest.mark.long
def test_prometheus_finds_our_names_at_a_node(tmp_path, monkeypatch):
    import ray

    ray.shutdown()
    port = free_port()
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    ray.init(address="local", num_cpus=2, include_dashboard=False, _metrics_export_port=port)
    try:
        source = worlds.coco_folder(tmp_path / "input", 8)
        build(worlds.settings(tmp_path / "out", source, runtime="ray", workers=1), RayRunner())
        wanted, found = {f"regionpairs_{name}" for name in SERIES}, set()
        deadline = time.monotonic() + 60
        while wanted - found and time.monotonic() < deadline:
            time.sleep(2)
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            found = {
                name.removesuffix("_total") for name in re.findall(r"^ray_(regionpairs_\w+)", text, re.M)
            }
        assert wanted <= found
    finally:
        ray.shutdown()
