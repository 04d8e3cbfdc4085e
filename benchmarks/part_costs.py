"""What a part costs outside the models as plans grow, and what the driver holds: part of `benchmarks/scale.py`.

    python -m benchmarks.part_costs N FOLDER

builds a plan of N parts with simulated workers and prints the driver's peak memory, as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import null_models
from benchmarks.simulated import SimulatedRunner, use_simulated_pool
from pipeline import build as builds
from pipeline import sources, stages, teachers
from pipeline.dataset.plan import Parts
from pipeline.run_local import LocalRunner
from pipeline.stages.chain import Job, Payload

ROOT = Path(__file__).resolve().parents[1]
#: Parts of the simulated drivers with --quick.
QUICK_SIZES = (1_000, 10_000)


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock and CPU seconds of a build and of its resume; CPU seconds at every hundredth of the parts."""

    build_s: float
    resume_s: float
    build_cpu_s: float
    resume_cpu_s: float
    at_hundredths: list[float]


class Clock(LocalRunner):
    """Notes the CPU seconds of this process as parts are done: after each `every`, by default at every hundredth. One
    process does it all, so none are spent elsewhere."""

    processes = 1

    def __init__(self, every: int = 0) -> None:
        self.marks: list[float] = []
        self._every = every

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        step = self._every or max(1, len(parts) // 100)
        for done, payload in enumerate(super().run(stages, job, parts)):
            if done % step == 0:
                self.marks.append(time.process_time())
            yield payload


def warm_up(folder: Path) -> None:
    """A small build: what builds need is loaded then."""
    with _no_models():
        _built_and_resumed(folder / "warm", 2)


@contextlib.contextmanager
def _no_models() -> Iterator[None]:
    plain = (sources.load, teachers.load, stages.BUILD)
    read, _, commit = stages.BUILD
    stages.BUILD = (read, null_models.NullAnnotate, commit)  # type: ignore[assignment]
    teachers.load = lambda settings: null_models.NullTeacher()
    try:
        yield
    finally:
        sources.load, teachers.load, stages.BUILD = plain


def parts(folder: Path, quick: bool) -> dict[str, Any]:
    """Few parts, many, and few again, each built and then resumed; the start of a build is that of one part."""
    few, many, rounds = (80, 400, 1) if quick else (1_000, 100_000, 3)
    with _no_models():
        _built_and_resumed(folder / "warm", 50)
        sizes = [1, few] * rounds + [many] + [1, few] * rounds
        found: dict[int, list[Spent]] = {1: [], few: [], many: []}
        for i, n in enumerate(sizes):
            found[n].append(_built_and_resumed(folder / str(i), n))
            print(f"parts: {n} of them: {found[n][-1].build_cpu_s:.2f} CPU s", file=sys.stderr, flush=True)
            shutil.rmtree(folder / str(i))
    return _part_costs(found, few, many)


def _part_costs(found: dict[int, list[Spent]], few: int, many: int) -> dict[str, Any]:
    """Medians of the rounds, in CPU seconds; `by_clock` beside them."""
    cpu = {
        n: statistics.median(one.build_cpu_s + one.resume_cpu_s for one in rounds)
        for n, rounds in found.items()
    }
    clock = {
        n: statistics.median(one.build_s + one.resume_s for one in rounds) for n, rounds in found.items()
    }
    least, most = (f([one.build_cpu_s + one.resume_cpu_s for one in found[few]]) for f in (min, max))
    large = found[many][0]
    marks = large.at_hundredths
    tenth = len(marks) // 10
    step = max(1, many // 100) * tenth
    return {
        "part_cost_ratio": round(cpu[many] / many / (cpu[few] / few), 3),
        "part_cost_ratio_by_clock": round(clock[many] / many / (clock[few] / few), 3),
        "part_cost_ratio_without_start": round(
            (cpu[many] - cpu[1]) / (many - 1) / ((cpu[few] - cpu[1]) / (few - 1)), 3
        ),
        "part_cost_ratio_range": [round(cpu[many] / many / (x / few), 3) for x in (most, least)],
        "part_cpu_ms": {str(n): round(1000 * cpu[n] / n, 3) for n in (few, many)},
        "part_cpu_ms_by_tenth": [
            round(1000 * (marks[i + tenth] - marks[i]) / step, 3) for i in range(0, len(marks) - tenth, tenth)
        ],
        "part_start_cpu_s": round(cpu[1], 2),
        f"resume_s_of_{many}": round(large.resume_s, 1),
        f"resume_cpu_s_of_{many}": round(large.resume_cpu_s, 1),
        "resume_cpu_s_per_100000_parts": round(large.resume_cpu_s * 100_000 / many, 1),
    }


def _built_and_resumed(out: Path, n: int) -> Spent:
    """A build of n parts and the same command again."""
    sources.load = lambda settings, captions_only=False: null_models.NullSource(n)
    settings, seconds, runner = null_models.settings_for(out), [], Clock()
    for _ in range(2):
        started, cpu = time.perf_counter(), time.process_time()
        summary = builds.build(settings, runner)
        seconds.append((time.perf_counter() - started, time.process_time() - cpu))
    assert summary["n_samples"] == n
    assert summary["last_run"]["n_parts_built"] == 0
    (build_s, build_cpu_s), (resume_s, resume_cpu_s) = seconds
    return Spent(build_s, resume_s, build_cpu_s, resume_cpu_s, runner.marks)


def memory(folder: Path, quick: bool) -> dict[str, Any]:
    """Peak memory of simulated drivers."""
    sizes = QUICK_SIZES if quick else (1_000, 10_000, 100_000, 1_000_000)
    with ThreadPoolExecutor(2 if quick else 1) as pool:
        return _memory(dict(zip(sizes, pool.map(lambda n: _driver_of(n, folder), sizes), strict=True)))


class QuickDrivers:
    """Simulated drivers in forks of this process, which has loaded their libraries already. A fork holds what this process
    held besides, which is a few MiB as long as it has done nothing."""

    def __init__(self) -> None:
        importlib.import_module("pipeline.networks.region_geometry")  # torchvision, for all of them at once
        context = multiprocessing.get_context("fork")
        self._running = {}
        for n in QUICK_SIZES:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_answer, args=(n, theirs))
            process.start()
            theirs.close()
            self._running[n] = (process, ours)

    def results(self) -> dict[str, Any]:
        """What `memory` says. Raises EOFError if one of them did not end well."""
        found = {}
        for n, (process, ours) in self._running.items():
            found[n] = ours.recv()
            process.join()
        return _memory(found)


def _answer(n: int, target: Any) -> None:
    target.send(simulated_driver(n))


def _memory(found: dict[int, dict[str, float]]) -> dict[str, Any]:
    sizes = list(found)
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
