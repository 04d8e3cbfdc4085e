"""What the corpus pass costs on the local runner and on Ray: `jobs/refine_labels.py` of one dataset, in turns.

    python benchmarks/corpus_pass.py DATASET

DATASET is a built dataset with stored region embeddings; nothing in it changes. `cpu_s` are the CPU seconds of a whole job
and of every process that it started (Ray's own among them), looked at five times a second, `pass_s` the seconds of reading and fitting by the clock, as
`classifier.json` has them; medians of the turns. `cpu_s_per_million_regions` takes off what the same command costs once
everything is there: `start_cpu_s`. `same_bytes`: whether shards and classifier are those of the local runner.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
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
from pipeline.dataset.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
#: What is measured of a job.
SECONDS = ("wall_s", "cpu_s", "start_s", "start_cpu_s", "pass_s")
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
    runs: dict[str, list[dict[str, Any]]] = {"local": [], "ray": []}
    for _ in range(options.turns):
        for runtime, some in runs.items():
            some.append(refined(options.dataset, runtime))
            print(runtime, some[-1], file=sys.stderr, flush=True)
    row: dict[str, Any] = {"regions": n_regions, "load_average": round(os.getloadavg()[0], 1)}
    for runtime, some in runs.items():
        row[runtime] = {name: statistics.median(run[name] for run in some) for name in SECONDS}
        work = row[runtime]["cpu_s"] - row[runtime]["start_cpu_s"]
        row[runtime] |= {
            "cpu_s_per_million_regions": work * 1e6 / n_regions,
            "pass_s_per_million_regions": row[runtime]["pass_s"] * 1e6 / n_regions,
        }
        row[runtime] = {name: round(value, 1) for name, value in row[runtime].items()}
    row["same_bytes"] = len({run["bytes"] for some in runs.values() for run in some}) == 1
    print(json.dumps(row))


def refined(dataset: str, runtime: str) -> dict[str, Any]:
    """One job, twice: its seconds, and a hash of what it made. Raises CalledProcessError."""
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
        command += ["--workers=2", "--report=false", "--labels-only"]
        wall_s, cpu_s = spent(command)
        start_s, start_cpu_s = spent(command)
        seconds = json.loads((out / "concept_pool" / "classifier.json").read_text())["seconds"]
        made = [*sorted(out.glob("shards/*")), out / "concept_pool" / "classifier.safetensors"]
        digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in made))
        times = (wall_s, cpu_s, start_s, start_cpu_s, sum(seconds.values()))
        return {**dict(zip(SECONDS, times, strict=True)), "bytes": digest.hexdigest()}


def spent(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of all that a command started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    started = time.perf_counter()
    used: dict[tuple[int, int], float] = {}
    job = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)
    wall_s = 0.0
    while look(used):  # Ray's processes end a moment after the job
        if not wall_s and job.poll() is not None:
            wall_s = time.perf_counter() - started
        reap(job)
        time.sleep(0.2)
    if job.returncode:
        raise subprocess.CalledProcessError(job.returncode, command)
    return wall_s, sum(used.values())


def look(used: dict[tuple[int, int], float]) -> bool:
    """Notes the CPU seconds of all that descends from this process, by process id and start; whether there is any."""
    tick = os.sysconf("SC_CLK_TCK")
    children: dict[int, list[int]] = {}
    stats: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(entry.name)
            stats[pid] = (entry / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(stats[pid][1]), []).append(pid)
    todo = list(children.get(os.getpid(), []))
    alive = bool(todo)
    while todo:
        pid = todo.pop()
        fields = stats[pid]
        used[pid, int(fields[19])] = (int(fields[11]) + int(fields[12])) / tick
        todo += children.get(pid, [])
    return alive


def reap(job: subprocess.Popen[bytes]) -> None:
    """Ends the zombies that became this process' children: a job's orphans."""
    with contextlib.suppress(ChildProcessError):
        while job.poll() is not None and os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
