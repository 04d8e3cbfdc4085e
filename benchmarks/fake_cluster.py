"""A cluster that grows and shrinks, on one machine: Ray's autoscaler with its fake multi-node provider.

    python benchmarks/fake_cluster.py --quick

Node types as in `ray_cluster.yaml`, smaller: a head of no CPUs, one CPU node or more, GPU nodes from zero (the GPUs are
numbers that Ray counts). Each job runs in a process of its own, and once more without Ray; annotators ask for a GPU as with
`teacher.device: cuda`, and compute without one. The last line is JSON:

- `built`: a build, in the middle of which the raylet of a GPU node that holds an annotator is killed: `same_bytes` (shards,
  indices, tables and pool are those of the local build), the node, `parts_then` of `parts`. Without --quick also
  `undisturbed`.
- `relabelled_same_bytes`: whether `relabel.py`, with other labels, gives the bytes of the local one.
- `trained`: `train_student.py` on two ranks, a node each, the node of one of them killed after a checkpoint: `same_weights`
  and `same_losses` as two local processes, undisturbed; `step_then`, and `least_after`: the least step seen after it, at or
  little above that of the checkpoint it went on from.
- `studied_same`: whether `scaling_study.py` trains students of the same weights, with the same metrics, as locally.
- `refused`: a job that asks for GPUs that no node type has: exit code, seconds, and its line.
- `gpu_nodes`: before the jobs, at most, and after them; `gpu_gone_after_s`: seconds from the last job's end until then.
- `nodes`: most of each type at a time. `actors_on_head`: classes of actors that ran on the head. `s`: seconds of each step.

--out FOLDER keeps `fake_cluster.csv` (second, nodes of each type) and `fake_cluster.png`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import fake_jobs as jobs
from benchmarks.fake_jobs import JOB_S, Submitted
from benchmarks.fake_nodes import ROOT, cluster, raylet_of, wait_until
from benchmarks.fake_watch import Watch

#: What the bytes of a dataset are.
FILES = ("shards/*", "index/*", "*.parquet", "concept_pool/*", "plan/parts.parquet", "plan/index/*")
#: Seconds of waiting for what no node has until a job is refused.
REFUSED_S = 8
#: Columns of metrics.jsonl that say what was computed.
COMPUTED = ("step", "loss", "contrast", "distill", "image", "lr")


@dataclass(frozen=True)
class Run:
    """What every step needs: where everything lies, how much there is of it, and the cluster."""

    folder: Path
    n: int
    steps: int
    environment: dict[str, str]
    watch: Watch

    @property
    def local(self) -> Path:
        return self.folder / "local"

    def submit(self, words: list[str], says: str) -> Submitted:
        self.watch.says(says)
        return Submitted(self.environment, words)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the cluster ends with it
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer images and steps: minutes on 2 cores")
    parser.add_argument("--out", help="folder for the nodes over time, as CSV and PNG")
    options = parser.parse_args()
    result: dict[str, Any] = {"quick": options.quick, "load_average": round(os.getloadavg()[0], 1), "s": {}}
    steps: list[Callable[[Run], dict[str, Any]]] = [built, relabelled, studied, trained, refused, idle]
    n, n_steps = (64, 30) if options.quick else (640, 300)
    with tempfile.TemporaryDirectory(prefix="fake-cluster-") as name:
        started = time.monotonic()
        alone(Path(name), n, n_steps)
        result["s"]["alone"] = round(time.monotonic() - started, 1)
        with cluster() as environment, Watch(environment) as watch:
            run = Run(Path(name), n, n_steps, environment, watch)
            for step in steps if options.quick else [undisturbed, *steps]:
                started = time.monotonic()
                result |= step(run)
                result["s"][step.__name__] = round(time.monotonic() - started, 1)
                result |= {"nodes": watch.most(), "actors_on_head": watch.actors_on_head}
                print(json.dumps(result), flush=True)
                if options.out:
                    watch.write(Path(options.out))


def alone(folder: Path, n: int, n_steps: int) -> None:
    """The twins of all jobs, without Ray."""
    local = folder / "local"
    words = [
        *jobs.build(local, n, "local"),
        *("--", *jobs.relabel(local, "local")),
        *("--", *jobs.train(local, folder / "student-alone", n_steps, "local")),
        *("--", *jobs.study(local, folder / "study-alone", "local")),
    ]
    Submitted({**os.environ, "PYTHONPATH": str(ROOT)}, words).finish()


def undisturbed(run: Run) -> dict[str, Any]:
    """A build to which nothing happens."""
    out = run.folder / "undisturbed"
    run.submit(jobs.build(out, run.n, "ray"), "build").finish()
    return {"undisturbed": {"same_bytes": hashes(out) == hashes(run.local)}}


def built(run: Run) -> dict[str, Any]:
    """A build, and a GPU node that holds an annotator lost in the middle of it."""
    out = run.folder / "cluster"
    job = run.submit(jobs.build(out, run.n, "ray"), "build")

    def to_kill() -> list[dict[str, Any]]:
        there = list(out.glob("manifest/*.json"))
        return run.watch.nodes_of("Annotate", "gpu_worker") if there else []

    node = killed_once(run, job, to_kill)
    parts_then = len(list(out.glob("manifest/*.json")))
    job.finish()
    wrong = [name for name, digest in hashes(run.local).items() if hashes(out).get(name) != digest]
    found = {
        "same_bytes": hashes(out) == hashes(run.local),
        "differ": wrong[:3],
        "node": node,
        "parts_then": parts_then,
        "parts": len(list(out.glob("manifest/*.json"))),
        "said": [line for line in job.output.splitlines() if "lost a worker" in line][:1],
    }
    return {"built": found}


def killed_once(run: Run, job: Submitted, to_kill: Callable[[], list[dict[str, Any]]]) -> str:
    """Kills the raylet of the first node that is to be killed once there is one; returns the end of its id."""
    wait_until(lambda: job.ended() or to_kill(), JOB_S)
    if job.ended():
        job.finish()
        raise RuntimeError("the job was through before a node could be killed")
    (node, *_) = to_kill()
    os.kill(raylet_of(node), signal.SIGKILL)
    run.watch.says("a node killed")
    return str(node["NodeID"][-5:])


def relabelled(run: Run) -> dict[str, Any]:
    """Other labels for what was built."""
    out = run.folder / "cluster"
    run.submit(jobs.relabel(out, "ray"), "relabel").finish()
    return {"relabelled_same_bytes": hashes(jobs.labels(out)) == hashes(jobs.labels(run.local))}


def studied(run: Run) -> dict[str, Any]:
    """Two students of a scaling study, a task each."""
    run.submit(jobs.study(run.local, run.folder / "study", "ray"), "scaling study").finish()
    ours, theirs = (students(run.folder / name) for name in ("study", "study-alone"))
    return {"studied_same": ours == theirs and len(ours) == 2, "students": len(ours)}


def students(out: Path) -> dict[str, Any]:
    """Name -> hash of the weights and the metrics, but for the speed, of a study's students."""
    found = {}
    for path in sorted(out.glob("runs/*/metrics.json")):
        metrics = {k: v for k, v in json.loads(path.read_text()).items() if not k.endswith("per_s")}
        found[path.parent.name] = (digest(path.with_name("student.safetensors")), metrics)
    return found


def trained(run: Run) -> dict[str, Any]:
    """A training on two nodes, one of which is lost after a checkpoint."""
    out, twin = run.folder / "student", run.folder / "student-alone"
    job = run.submit(jobs.train(run.local, out, run.steps, "ray"), "training")
    begun = out / "keys.jsonl"

    def to_kill() -> list[dict[str, Any]]:
        there = begun.exists() and len(lines(begun)) > 6
        return run.watch.nodes_of("RayTrainWorker") if there else []

    node = killed_once(run, job, to_kill)
    step_then = len(lines(begun))
    seen = [step_then]
    while not job.ended():
        seen.append(len(lines(begun)))
        time.sleep(0.2)
    job.finish()
    found = {
        "same_weights": digest(out / "student.safetensors") == digest(twin / "student.safetensors"),
        "same_losses": computed(out) == computed(twin),
        "node": node,
        "steps": len(computed(out)),
        "step_then": step_then,
        "least_after": min(seen),
    }
    return {"trained": found}


def computed(out: Path) -> list[list[Any]]:
    """What each step of a training gave."""
    return [[row.get(key) for key in COMPUTED] for row in map(json.loads, lines(out / "metrics.jsonl"))]


def refused(run: Run) -> dict[str, Any]:
    """A job that no node type can serve."""
    started = time.monotonic()
    more = {"gpus_per_worker": 4, "no_progress_s": REFUSED_S}
    job = run.submit(jobs.build(run.folder / "refused", run.n, "ray", **more), "asks for 4 GPUs a worker")
    code = job.wait()
    said = [line for line in job.output.splitlines() if "4 GPU" in line]
    s = round(time.monotonic() - started, 1)
    return {"refused": {"code": code, "s": s, "said": said[-1:] or [job.output[-500:]]}}


def idle(run: Run) -> dict[str, Any]:
    """Nothing more to do: the GPU nodes go."""
    run.watch.says("done")
    started = time.monotonic()
    wait_until(lambda: not run.watch.now()["gpu_worker"], 120)
    counts = [run.watch.rows[0][1]["gpu_worker"], run.watch.most()["gpu_worker"], 0]
    return {"gpu_nodes": counts, "gpu_gone_after_s": round(time.monotonic() - started, 1)}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(out: Path) -> dict[str, str]:
    """Name -> sha256 of the files that are the dataset's bytes."""
    paths: Iterable[Path] = (path for pattern in FILES for path in sorted(out.glob(pattern)))
    return {str(path.relative_to(out)): digest(path) for path in paths}


if __name__ == "__main__":
    main()
