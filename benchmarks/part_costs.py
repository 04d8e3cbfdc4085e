"""What a part costs outside the models as plans grow, and what the driver holds: part of `benchmarks/scale.py`.

    python -m benchmarks.part_costs N FOLDER

builds a plan of N parts with simulated workers and prints the driver's peak memory, as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import null_models
from benchmarks.simulated import SimulatedRunner, use_simulated_pool
from pipeline import build as builds
from pipeline import sources, stages, teachers
from pipeline.run_local import LocalRunner

ROOT = Path(__file__).resolve().parents[1]


def parts(folder: Path, quick: bool) -> dict[str, Any]:
    """Few and many parts in turns, each built and then resumed."""
    few, many, rounds = (100, 400, 2) if quick else (1_000, 100_000, 3)
    plain = (sources.load, teachers.load, stages.BUILD)
    read, _, commit = stages.BUILD
    stages.BUILD = (read, null_models.NullAnnotate, commit)  # type: ignore[assignment]
    teachers.load = lambda settings: null_models.NullTeacher()
    try:
        _built_and_resumed(folder / "warm", 50)
        small, large = [], []
        for i in range(rounds):
            small.append(_built_and_resumed(folder / f"few-{i}", few))
            if i == 0 or quick:
                large.append(_built_and_resumed(folder / f"many-{i}", many))
    finally:
        sources.load, teachers.load, stages.BUILD = plain
    ms = {n: 1000 * min(sum(r) for r in found) / n for n, found in ((few, small), (many, large))}
    return {
        "part_cost_ratio": round(ms[many] / ms[few], 3),
        "part_ms": {str(n): round(value, 3) for n, value in ms.items()},
        "resume_s_per_100000_parts": round(min(r[1] for r in large) * 100_000 / many, 1),
    }


def _built_and_resumed(out: Path, n: int) -> tuple[float, float]:
    """Seconds of a build of n parts and of the same command again."""
    sources.load = lambda settings, captions_only=False: null_models.NullSource(n)
    settings, seconds = null_models.settings_for(out), []
    for _ in range(2):
        started = time.perf_counter()
        summary = builds.build(settings, LocalRunner())
        seconds.append(time.perf_counter() - started)
    assert summary["n_samples"] == n
    assert summary["last_run"]["n_parts_built"] == 0
    return seconds[0], seconds[1]


def memory(folder: Path, quick: bool) -> dict[str, Any]:
    """Peak memory of simulated drivers."""
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    with ThreadPoolExecutor(2 if quick else 1) as pool:
        found = dict(zip(sizes, pool.map(lambda n: _driver_of(n, folder), sizes), strict=True))
    mib = {n: answer["own_mib"] for n, answer in found.items()}
    resident = {n: answer["resident_mib"] for n, answer in found.items()}
    first, last = sizes[0], sizes[-1]
    return {
        "driver_mib_at": {str(n): round(value, 1) for n, value in mib.items()},
        "driver_resident_mib_at": {str(n): round(value, 1) for n, value in resident.items()},
        "driver_bytes_per_part": round((mib[last] - mib[first]) * 2**20 / (last - first), 1),
        "driver_within": all(value <= 512 + 300 * n / 2**20 for n, value in mib.items()),
    }


def _driver_of(n: int, folder: Path) -> dict[str, float]:
    """What `simulated_driver` says in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.part_costs", str(n), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def simulated_driver(n: int) -> dict[str, float]:
    """Builds a dataset of n parts with workers that only answer; peak memory of this process in MiB."""
    use_simulated_pool()
    own = [0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            own[0] = max(own[0], _own_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory() as out:
        sources.load = lambda settings, captions_only=False: null_models.NullSource(n)
        summary = builds.build(null_models.settings_for(Path(out)), SimulatedRunner())
    over.set()
    watcher.join()
    assert summary["n_samples"] == n
    return {"own_mib": own[0], "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _own_mib() -> float:
    """Memory of this process that is no mapped file."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


if __name__ == "__main__":
    print(json.dumps(simulated_driver(int(sys.argv[1]))))
