"""The Ray runner against the plain one, on a real Ray of our own."""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.demo import head
from pipeline.align import AlignSettings
from pipeline.build import Incomplete, build
from pipeline.corpus.settings import CorpusSettings
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

ROOT = Path(__file__).resolve().parents[3]
ALIGN = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Input pictures, and the dataset that the plain runner makes of them with the embedded teacher."""
    root = tmp_path_factory.mktemp("ray")
    settings = worlds.settings(root / "local", worlds.coco_folder(root / "input", 20), align=ALIGN)
    build(settings, LocalRunner())
    return root, settings


def same(a: Path, b: Path) -> None:
    for pattern in (
        "shards/*",
        "index/*",
        "*.parquet",
        "concept_pool/*",
        "plan/parts.parquet",
        "plan/index/*",
    ):
        assert worlds.hashes(a, pattern) == worlds.hashes(b, pattern), pattern
    assert list(verify(str(b))) == []


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_bytes_of_the_plain_runner(reference, ray_instance, workers):
    from jobs.on_ray.build import RayRunner

    root, plain = reference
    settings = worlds.settings(
        root / f"ray-{workers}", plain.source, runtime="ray", workers=workers, align=ALIGN
    )
    assert build(settings, RayRunner())["last_run"]["n_parts_built"] == 4
    same(root / "local", root / f"ray-{workers}")
    assert build(settings, RayRunner())["last_run"]["n_parts_built"] == 0


@pytest.mark.ray
def test_the_corpus_pass_on_ray_gives_the_bytes_of_the_plain_runner(reference, ray_instance):
    from jobs.on_ray.build import RayRunner

    root, plain = reference
    align = dataclasses.replace(plain.align, policy="corpus", score="objectness")
    corpus = CorpusSettings(rounds=2, shards_per_step=2, steps_per_round=2)
    settings = [
        dataclasses.replace(plain, out=str(root / f"corpus-{name}"), runtime=name, align=align, corpus=corpus)
        for name in ("local", "ray")
    ]
    relabel(plain.out, settings[0], LocalRunner())
    relabel(plain.out, settings[1], RayRunner())
    for pattern in ("shards/*", "index/*", "*.parquet", "concept_pool/*.safetensors"):
        assert worlds.hashes(root / "corpus-local", pattern) == worlds.hashes(root / "corpus-ray", pattern)
    assert list(verify(settings[1].out)) == []


@pytest.mark.ray
def test_relabelling_on_ray_gives_the_bytes_of_the_plain_runner(reference, ray_instance):
    from jobs.on_ray.build import RayRunner

    root, plain = reference
    for name, runner in (("plain", LocalRunner()), ("ray", RayRunner())):
        out = str(root / f"relabelled-{name}")
        relabel(
            plain.out,
            dataclasses.replace(
                plain, out=out, align=AlignSettings(policy="pool", tau=0.2, region_embeddings="fp16")
            ),
            runner,
        )
    same(root / "relabelled-plain", root / "relabelled-ray")


@pytest.mark.ray
def test_what_a_task_cannot_read_is_said_as_without_ray(ray_instance):
    from jobs.on_ray.build import RayRunner

    with pytest.raises(Incomplete) as e:
        list(RayRunner().map(_meets_a_damaged_shard, [1]))
    assert str(e.value) == "a shard is damaged"  # Ray's own error has a traceback for a message
    assert "verify" in e.value.advice


def _meets_a_damaged_shard(item: int) -> None:
    error = Incomplete("a shard is damaged")
    error.advice = "`regionpairs verify` says more"
    raise error


@pytest.mark.ray
@pytest.mark.long
def test_a_part_that_fails_on_ray_is_named_and_the_others_are_committed(reference, ray_instance):
    from jobs.on_ray.build import RayRunner

    root, _ = reference
    source = worlds.coco_folder(root / "failing", 20)
    settings = worlds.settings(root / "failing-out", source, runtime="ray", align=ALIGN)
    hidden = Path(source.images, "008.jpg")

    class Losing(RayRunner):
        def run(self, stages, job, parts):
            hidden.rename(root / "hidden.jpg")
            yield from super().run(stages, job, parts)

    with pytest.raises(Incomplete, match=r"1 of 4 parts failed.*008\.jpg"):
        build(settings, Losing())
    assert len(list((root / "failing-out" / "manifest").glob("*.json"))) == 3
    (root / "hidden.jpg").rename(hidden)
    assert build(settings, RayRunner())["last_run"]["n_parts_built"] == 1
    same(root / "local", root / "failing-out")


@pytest.mark.ray
@pytest.mark.slow
def test_a_submitted_job_resumes_after_its_driver_was_killed(reference):
    """The documented way: `ray job submit`, the driver killed by its id half-way, the same line again."""
    root, plain = reference
    out = root / "submitted"
    flags = {
        "out": out, "source.kind": "coco", "source.images": plain.source.images,
        "source.captions": plain.source.captions, "samples_per_shard": 6, "localizer.kind": "grid",
        "localizer.max_proposals": 9, "teacher.kind": "shapes", "teacher.batch_images": 4, "pool.min_count": 2,
        "align.tau": 0.1, "align.threshold": 0.2, "align.region_embeddings": "fp16",
    }  # fmt: skip
    job = ["python", "jobs/build_pairs.py", *(f"--{k}={v}" for k, v in flags.items())]
    with head() as (address, environment):
        submit = ["ray", "job", "submit", "--address", address, "--working-dir", str(ROOT), "--", *job]
        first = subprocess.Popen(submit, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        driver = _wait(lambda: (out / "plan" / "plan.json").exists() and _pid_of(str(out), first.pid))
        _wait(lambda: list((out / "manifest").glob("*.json")) if (out / "manifest").is_dir() else [])
        os.kill(driver, signal.SIGKILL)
        first.communicate(timeout=120)
        assert first.returncode != 0
        again = subprocess.run(submit, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stdout
        assert "skipped" in again.stdout or "found" in again.stdout
    same(root / "local", out)


def _wait(condition, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError


def _pid_of(out: str, submitter: int) -> int:
    """The process id of the driver that writes to `out`: not the one that submitted it, nor a shell around it."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        is_driver = words[0].endswith("python") and words[1:2] == ["jobs/build_pairs.py"]
        if is_driver and f"--out={out}" in words and int(entry.name) != submitter:
            return int(entry.name)
    return 0


def test_the_cluster_file_is_valid_and_its_head_runs_no_work():
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    util.validate_config(util.prepare_config(config))  # as `ray up` does
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert types["gpu_worker"]["min_workers"] == 0
    assert types["gpu_worker"]["resources"]["GPU"] >= 1
    assert types["cpu_worker"]["resources"]["CPU"] >= 1


def test_the_kubernetes_file_has_the_node_types_of_the_cluster_file():
    types = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())["available_node_types"]
    spec = yaml.safe_load((ROOT / "ray_cluster_kubernetes.yaml").read_text())["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"].replace("-", "_"): group for group in spec["workerGroupSpecs"]}
    assert groups.keys() == types.keys() - {"head"}
    for name, group in groups.items():
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert float(limits["cpu"]) == types[name]["resources"]["CPU"]
        assert float(limits.get("nvidia.com/gpu", 0)) == types[name]["resources"].get("GPU", 0)
        for key in ("min", "max"):
            assert group[f"{key}Replicas"] == types[name][f"{key}_workers"]
        assert container["resources"]["requests"] == limits


def _strict(schema: Any) -> Any:
    """A schema whose objects take no other keys than those listed, as the server's strict field validation."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found


def test_the_kubernetes_file_meets_the_schema_of_kuberay():
    path = os.environ.get("REGIONPAIRS_RAYCLUSTER_CRD")
    if not path:
        pytest.skip("REGIONPAIRS_RAYCLUSTER_CRD names no CRD file of KubeRay")
    versions = yaml.safe_load(Path(path).read_text())["spec"]["versions"]
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    validator = jsonschema.Draft4Validator(_strict(schema))
    document = yaml.safe_load((ROOT / "ray_cluster_kubernetes.yaml").read_text())
    assert [error.message for error in validator.iter_errors(document)] == []
    for change in (  # the check itself can fail
        {"minReplica": 1},
        {"maxReplicas": "many"},
        {"rayStartParams": {"num-cpus": 0}},
    ):
        broken = copy.deepcopy(document)
        broken["spec"]["workerGroupSpecs"][0] |= change
        assert list(validator.iter_errors(broken)), change


def test_the_local_runtime_never_imports_ray(tmp_path):
    source = worlds.coco_folder(tmp_path / "input", 4)
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from jobs.build_pairs import main\n"
        f"raise SystemExit(main(['--runtime=local', '--out={tmp_path / 'out'}', '--source.kind=coco', "
        f"'--source.images={source.images}', '--source.captions={source.captions}', '--localizer.kind=grid', "
        "'--pool.min_count=1']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_policies_are_part_of_the_bytes(reference):
    root, plain = reference
    settings = worlds.settings(root / "pool-policy", plain.source, align=AlignSettings(policy="pool"))
    build(settings, LocalRunner())
    assert set(worlds.hashes(root / "pool-policy").values()) != set(worlds.hashes(root / "local").values())
