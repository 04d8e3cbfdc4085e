"""What the corpus pass costs on the local runner and on Ray: `jobs/refine_labels.py` of one dataset, in turns.

    python benchmarks/corpus_pass.py DATASET

DATASET is a built dataset with stored region embeddings; nothing in it changes. Seconds are medians of the turns:

- `wall_s`, `cpu_s`: a whole job, and every process that it started (Ray's own among them), looked at five times a second;
- `pass_s`: reading and fitting by the clock, as `classifier.json` has them;
- `cpu_s_per_million_regions`: of twelve rounds, by what jobs of 36 rounds cost more: no start, reading or labelling;
- `rest_cpu_s`: what is left of `cpu_s` without the rounds, which is mostly starting processes.

`same_bytes`: whether shards and classifier are those of the local runner.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import storage
from benchmarks.tree_cpu import TreeCpu
from pipeline.dataset.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
#: Rounds of a pass (the default), and of a longer one.
ROUNDS, MORE = 12, 36
#: prctl: orphans of a child become children of this process, so that their CPU seconds are counted.
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="a built dataset with stored region embeddings")
    parser.add_argument("--turns", type=int, default=3, help="jobs of each sort")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    n_regions = json.loads(storage.read_bytes(Layout(storage.absolute(options.dataset)).summary))["n_regions"]
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(options.turns):
        for runtime, rounds in itertools.product(("local", "ray"), (ROUNDS, MORE)):
            some = runs.setdefault((runtime, rounds), [])
            some.append(refined(options.dataset, runtime, rounds))
            print(runtime, rounds, some[-1], file=sys.stderr, flush=True)
    row: dict[str, Any] = {"regions": n_regions, "load_average": round(os.getloadavg()[0], 1)}
    for runtime in ("local", "ray"):
        found = {
            name: statistics.median(run[name] for run in runs[runtime, ROUNDS])
            for name in ("wall_s", "cpu_s", "pass_s")
        }
        more = statistics.median(run["cpu_s"] for run in runs[runtime, MORE]) - found["cpu_s"]
        rounds_s = more * ROUNDS / (MORE - ROUNDS)
        found["cpu_s_per_million_regions"] = rounds_s * 1e6 / n_regions
        found["rest_cpu_s"] = found["cpu_s"] - rounds_s
        row[runtime] = {name: round(value, 1) for name, value in found.items()}
    row["same_bytes"] = all(
        len({run["bytes"] for name in ("local", "ray") for run in runs[name, n]}) == 1 for n in (ROUNDS, MORE)
    )
    print(json.dumps(row))


def refined(dataset: str, runtime: str, rounds: int) -> dict[str, Any]:
    """One job: its seconds, and a hash of what it made. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "refined")
        command = [
            sys.executable,
            "-m",
            "jobs.refine_labels",
            dataset,
            f"--out={out}",
            f"--runtime={runtime}",
        ]
        command += [f"--corpus.rounds={rounds}", "--workers=2", "--report=false", "--labels-only"]
        wall_s, cpu_s = spent(command)
        seconds = json.loads((out / "concept_pool" / "classifier.json").read_text())["seconds"]
        made = [*sorted(out.glob("shards/*")), out / "concept_pool" / "classifier.safetensors"]
        digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in made))
        return {
            "wall_s": round(wall_s, 2),
            "cpu_s": round(cpu_s, 2),
            "pass_s": round(sum(seconds.values()), 2),
            "bytes": digest.hexdigest()[:16],
        }


def spent(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of all that a command started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    started, cpu = time.perf_counter(), TreeCpu()
    job = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
    used, wall_s = cpu.seconds(), 0.0
    while cpu.running:  # Ray's processes end a moment after the job
        if not wall_s and job.poll() is not None:
            wall_s = time.perf_counter() - started
        reap(job)
        time.sleep(0.2)
        used = cpu.seconds()
    if job.returncode:
        raise subprocess.CalledProcessError(job.returncode, command)
    return wall_s, used.total() - used["driver"]  # the driver is this process


def reap(job: subprocess.Popen[bytes]) -> None:
    """Ends the zombies that became this process' children: a job's orphans."""
    with contextlib.suppress(ChildProcessError):
        while job.poll() is not None and os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
