"""A cluster that grows and shrinks, on one machine: Ray's autoscaler with its fake multi-node provider.

    python benchmarks/fake_cluster.py --quick

Node types as in `ray_cluster.yaml`, smaller: a head of no CPUs, one CPU node or more, GPU nodes from zero (the GPUs are
numbers that Ray counts). `build_pairs.py` runs in a process of its own; its annotators ask for a GPU as with
`teacher.device: cuda`, and compute without one. The last line is JSON:

- `same_bytes`: whether shards, indices, tables and pool of the cluster's build are those of the local one.
- `gpu_nodes`: before the job, at most while it ran, and after it; `gpu_gone_after_s`: seconds from its end until then.
- `actors_on_head`: workers of ours that ran there. `nodes`: most of each type at a time.
- `killed`: the same with the raylet of a GPU node killed once parts were committed: `same_bytes`, the node, `parts_then`.
- `relabelled_same_bytes`: whether `relabel.py` on the cluster, with other labels, gives the bytes of the local one.
- `refused`: a job that asks for GPUs that no node type has: exit code, seconds, and its line.

--out FOLDER keeps `fake_cluster.csv` (second, nodes of each type) and `fake_cluster.png`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fake_nodes import ROOT, cluster, raylet_of, wait_until

#: What the bytes of a dataset are.
FILES = ("shards/*", "index/*", "*.parquet", "concept_pool/*", "plan/parts.parquet", "plan/index/*")
#: Seconds until a job must be through, and of waiting for what no node has until it is refused.
JOB_S, REFUSED_S = 400.0, 8


def main() -> None:
    if sys.argv[1:2] == ["--job"]:
        raise SystemExit(job(sys.argv[2:]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster ends with it
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer images: minutes on 2 cores")
    parser.add_argument("--out", help="folder for the nodes over time, as CSV and PNG")
    options = parser.parse_args()
    result: dict[str, Any] = {"quick": options.quick, "load_average": round(os.getloadavg()[0], 1)}
    n = 32 if options.quick else 640
    with tempfile.TemporaryDirectory(prefix="fake-cluster-") as name, cluster() as environment:
        folder = Path(name)
        here = {**os.environ, "PYTHONPATH": str(ROOT)}
        submitted(folder / "local", n, here, "--runtime=local").finish()
        relabelled(folder / "local", here, "local").finish()
        with Watch(environment) as watch:
            for step in (whole, with_a_node_killed, refused):
                result |= step(folder, n, environment, watch)
                result |= {"nodes": watch.most(), "actors_on_head": watch.actors_on_head}
                print(json.dumps(result), flush=True)
                if options.out:
                    watch.write(Path(options.out))


def job(argv: list[str]) -> int:
    """`build_pairs.py`, or `relabel.py`, whose workers ask for GPUs as with `teacher.device: cuda`, and compute without."""
    from jobs import build_pairs, relabel

    if "--runtime=local" not in argv:
        from jobs.on_ray import build as on_ray

        on_ray.gpus_of = lambda settings: settings.gpus_per_worker
    return relabel.main(argv[1:]) if argv[0] == "relabel" else build_pairs.main(argv)


def whole(folder: Path, n: int, environment: dict[str, str], watch: Watch) -> dict[str, Any]:
    """A build from a cluster without GPU nodes, other labels for it, until the nodes are gone again."""
    before = watch.now()["gpu_worker"]
    watch.says("build")
    submitted(folder / "cluster", n, environment).finish()
    watch.says("relabel")
    relabelled(folder / "cluster", environment, "ray").finish()
    watch.says("done")
    ended, most = time.monotonic(), watch.most()["gpu_worker"]
    wait_until(lambda: not watch.now()["gpu_worker"], 120)
    return {
        "same_bytes": hashes(folder / "cluster") == hashes(folder / "local"),
        "relabelled_same_bytes": hashes(labels(folder / "cluster")) == hashes(labels(folder / "local")),
        "gpu_nodes": [before, most, watch.now()["gpu_worker"]],
        "gpu_gone_after_s": round(time.monotonic() - ended, 1),
    }


def with_a_node_killed(folder: Path, n: int, environment: dict[str, str], watch: Watch) -> dict[str, Any]:
    """The same build, and a node that holds an annotator lost in the middle of it."""
    out = folder / "killed"
    watch.says("build again")
    job = submitted(out, n, environment)
    wait_until(
        lambda: job.ended() or (len(list(out.glob("manifest/*.json"))) > 1 and watch.busy_gpu_nodes()), JOB_S
    )
    (node, *_) = watch.busy_gpu_nodes()
    parts = len(list(out.glob("manifest/*.json")))
    os.kill(raylet_of(node), signal.SIGKILL)
    watch.says("a node killed")
    job.finish()
    watch.says("done")
    found = {
        "same_bytes": hashes(out) == hashes(folder / "local"),
        "node": node["NodeID"][-5:],
        "parts_then": parts,
        "parts": len(list(out.glob("manifest/*.json"))),
        "said": [line for line in job.output.splitlines() if "lost a worker" in line][:1],
    }
    return {"killed": found}


def refused(folder: Path, n: int, environment: dict[str, str], watch: Watch) -> dict[str, Any]:
    """A job that no node type can serve."""
    watch.says("a job that asks for 4 GPUs a worker")
    started = time.monotonic()
    job = submitted(folder / "refused", n, environment, "--gpus_per_worker=4", f"--no_progress_s={REFUSED_S}")
    code = job.wait()
    said = [line for line in job.output.splitlines() if "4 GPU" in line]
    watch.says("refused")
    s = round(time.monotonic() - started, 1)
    return {"refused": {"code": code, "s": s, "said": said[-1:] or job.output[-500:]}}


def submitted(out: Path, n: int, environment: dict[str, str], *more: str) -> Submitted:
    """`build_pairs.py` on n images."""
    flags = {
        "out": out, "source.kind": "shapes", "source.count": n, "source.size": 96, "samples_per_shard": 4,
        "localizer.kind": "grid", "localizer.max_proposals": 20, "teacher.kind": "shapes",
        "teacher.batch_images": 4, "teacher.device": "auto", "pool.min_count": 1, "align.tau": 0.1,
        "align.threshold": 0.2, "align.region_embeddings": "fp16", "runtime": "ray", "workers": 2,
        "cpus_per_worker": 1, "report": "false",
    }  # fmt: skip
    return Submitted(environment, *(f"--{k}={v}" for k, v in flags.items()), *more)


def relabelled(dataset: Path, environment: dict[str, str], runtime: str) -> Submitted:
    """`relabel.py` of a dataset, with another threshold."""
    flags = {
        "out": labels(dataset), "align.threshold": 0.4, "runtime": runtime, "workers": 2, "cpus_per_worker": 1,
        "report": "false",
    }  # fmt: skip
    return Submitted(environment, "relabel", str(dataset), *(f"--{k}={v}" for k, v in flags.items()))


def labels(dataset: Path) -> Path:
    """Where a dataset's other labels go."""
    return dataset.with_name(f"{dataset.name}-relabelled")


class Submitted:
    """A job in a process of its own."""

    def __init__(self, environment: dict[str, str], *words: str):
        self.output = ""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the job
        command = [sys.executable, "-m", "benchmarks.fake_cluster", "--job", *words]
        self._process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT, text=True
        )

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self._process.wait(JOB_S)
        finally:
            self._process.kill()
            self._log.seek(0)
            self.output = self._log.read()
            self._log.close()

    def finish(self) -> None:
        """Raises RuntimeError unless it ends well."""
        if code := self.wait():
            raise RuntimeError(f"exit code {code}:\n{self.output[-4000:]}")


class Watch:
    """Looks at the cluster's nodes, and where our workers are, twice a second."""

    def __init__(self, environment: dict[str, str]):
        self.rows: list[tuple[float, Counter[str]]] = []
        self.marks: list[tuple[float, str]] = []
        self._environment = environment
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._on_head: set[str] = set()

    def __enter__(self) -> Watch:
        for name in ("RAY_AUTH_MODE", "RAY_raylet_start_wait_time_s"):
            os.environ[name] = self._environment[name]  # Ray reads them while it is imported
        import ray

        wait_until(lambda: _joins(self._environment["RAY_ADDRESS"]), 120)
        self._ray, self._started = ray, time.monotonic()
        self._thread.start()
        wait_until(lambda: self.rows and self.now()["cpu_worker"], 120)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._ray.shutdown()

    @property
    def actors_on_head(self) -> int:
        return len(self._on_head)

    def now(self) -> Counter[str]:
        return self.rows[-1][1]

    def most(self) -> dict[str, int]:
        return {
            name: max(nodes[name] for _, nodes in self.rows) for name in ("head", "cpu_worker", "gpu_worker")
        }

    def says(self, mark: str) -> None:
        """Something that happens now."""
        self.marks.append((time.monotonic() - self._started, mark))
        print(f"{self.marks[-1][0]:6.1f} s  {mark}", file=sys.stderr, flush=True)

    def busy_gpu_nodes(self) -> list[dict[str, Any]]:
        """GPU nodes that hold a worker of ours."""
        busy = {actor["Address"]["NodeID"] for actor in _actors() if actor["State"] == "ALIVE"}
        return [node for node in self._nodes() if _type(node) == "gpu_worker" and node["NodeID"] in busy]

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _look(self) -> None:
        while not self._over.wait(0.5):
            nodes = self._nodes()
            self.rows.append((time.monotonic() - self._started, Counter(map(_type, nodes))))
            heads = {node["NodeID"] for node in nodes if _type(node) == "head"}
            self._on_head |= {a["ActorID"] for a in _actors() if a["Address"]["NodeID"] in heads}

    def write(self, folder: Path) -> None:
        """The nodes over time as CSV and as a plot."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        folder.mkdir(parents=True, exist_ok=True)
        types = list(self.most())
        with (folder / "fake_cluster.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["s", *types])
            last: list[int] = []
            for s, nodes in self.rows:
                if (row := [nodes[name] for name in types]) != last:  # where something changes
                    writer.writerow([round(s, 1), *row])
                last = row
        figure, axes = plt.subplots(figsize=(8, 3))
        for name in types:
            axes.step(
                [s for s, _ in self.rows], [nodes[name] for _, nodes in self.rows], where="post", label=name
            )
        for s, mark in self.marks:
            axes.axvline(s, color="grey", linewidth=0.6)
            axes.annotate(mark, (s, axes.get_ylim()[1]), rotation=30, fontsize=7)
        axes.set_xlabel("s")
        axes.set_ylabel("nodes")
        axes.legend(loc="center right", fontsize=8)
        figure.savefig(folder / "fake_cluster.png", dpi=100, bbox_inches="tight")


def _joins(address: str) -> bool:
    import ray

    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError):
        time.sleep(1)
        return False
    return True


def _actors() -> list[dict[str, Any]]:
    from ray._private.state import actors

    return list(actors().values())


def _type(node: dict[str, Any]) -> str:
    """The type of a node, by what it has: the head has no CPUs."""
    resources = node["Resources"]
    return "gpu_worker" if resources.get("GPU") else "cpu_worker" if resources.get("CPU") else "head"


def hashes(out: Path) -> dict[str, str]:
    """Name -> sha256 of the files that are the dataset's bytes."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in FILES
        for path in sorted(out.glob(pattern))
    }


if __name__ == "__main__":
    main()
