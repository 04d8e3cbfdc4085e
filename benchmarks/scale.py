"""What a part costs outside the models as datasets grow, and whether an annotator ever waits for its images.

    python benchmarks/scale.py --quick

The last line is JSON:

- `part_cost_ratio`: seconds per part of a build without models (plan, read, mentions, commit, manifest, finish, and the
  resume check of a second run) with many parts over that with few; images and source cost nothing.
- `resume_s_per_100000_parts`: seconds of that second run, every byte checked again, for 100,000 parts.
- `driver_bytes_per_part`, `driver_mib_at`: peak memory of a driver whose workers are simulated (they answer what workers
  answer, without files), each size in a process of its own; its own memory, without the pages of mapped libraries, which
  `driver_resident_mib_at` has too; `driver_within`: at most 512 MiB + 300 bytes per part.
- `linear`: CPU seconds an image at 16x as many images over that at 1x, `linear_at_4x` the same at 4x, through the local
  pipeline with the demo's models; a build of one image beside each is taken off as start-up; medians of rounds in turns.
  `cpu_spread`: largest less smallest of the rounds, over their median: what a difference must exceed to mean anything.
- `hungry_share`: images/s of one annotator with two decode threads and models that cost nothing, over two threads that
  only decode, in turns; `hungry_share_by_cpu_time` is the share of the annotator's CPU seconds that decoding takes: what
  two cores give if nothing else runs on them, whatever runs there now. `hungry_share_ray`: as a build on Ray with pools
  of readers, annotators and committers.

--quick uses smaller numbers, which the JSON names, and leaves nothing out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from concept_pool.settings import PoolSettings
from pipeline import build as builds
from pipeline import sources, stages, teachers
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings, BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller numbers: a minute and a half on 2 idle cores"
    )
    parser.add_argument("--only", help="one of: parts, memory, linear, hungry, ray")
    parser.add_argument("--folder", help="where to write (default: memory, if there is room, else temporary)")
    parser.add_argument("--driver-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.driver_of:
        print(json.dumps(simulated_driver(options.driver_of)))
        return
    folder = options.folder or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    result: dict[str, Any] = {"quick": options.quick, "load_average": round(os.getloadavg()[0], 1)}
    for name, measure in (
        ("memory", memory), ("parts", parts), ("linear", linear), ("hungry", hungry), ("ray", hungry_on_ray),
    ):  # fmt: skip
        if options.only in (None, name):
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=folder, prefix="scale-") as out:
                result |= measure(Path(out), options.quick)
            result[f"{name}_s"] = round(time.perf_counter() - started, 1)
            print(json.dumps(result), flush=True)


def settings_for(out: Path, **changes: Any) -> BuildSettings:
    values: dict[str, Any] = {
        "out": str(out),
        "runtime": "local",
        "samples_per_shard": 1,
        "workers": 1,
        "pool": PoolSettings(min_count=1),
        "localizer": LocalizerSettings(kind="grid", max_proposals=20),
        "teacher": TeacherSettings(kind="shapes"),
    }
    return BuildSettings(**{**values, **changes})


def parts(folder: Path, quick: bool) -> dict[str, Any]:
    """Few and many parts in turns, each built and then resumed."""
    from benchmarks import null_models

    few, many, rounds = (150, 600, 2) if quick else (1_000, 100_000, 3)
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
    from benchmarks import null_models

    sources.load = lambda settings, captions_only=False: null_models.NullSource(n)
    settings, seconds = settings_for(out), []
    for _ in range(2):
        started = time.perf_counter()
        summary = builds.build(settings, LocalRunner())
        seconds.append(time.perf_counter() - started)
    assert summary["n_samples"] == n
    assert summary["last_run"]["n_parts_built"] == 0
    return seconds[0], seconds[1]


def memory(folder: Path, quick: bool) -> dict[str, Any]:
    """Peak memory of simulated drivers."""
    sizes = (1_000, 20_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
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
    command = [sys.executable, "-m", "benchmarks.scale", "--driver-of", str(n), "--folder", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def simulated_driver(n: int) -> dict[str, float]:
    """Builds a dataset of n parts with workers that only answer; peak memory of this process in MiB."""
    from benchmarks import null_models
    from benchmarks.simulated import SimulatedRunner, use_simulated_pool

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
        summary = builds.build(settings_for(Path(out)), SimulatedRunner())
    over.set()
    watcher.join()
    assert summary["n_samples"] == n
    return {"own_mib": own[0], "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _own_mib() -> float:
    """Memory of this process that is no mapped file."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def linear(folder: Path, quick: bool) -> dict[str, Any]:
    """CPU seconds an image of builds of 1x, 4x and 16x as many images, each less a build of one image beside it."""
    one, rounds = (8, 2) if quick else (64, 5)
    sizes = (one, 4 * one, 16 * one)
    found: dict[int, list[float]] = {n: [] for n in sizes}
    _built(folder / "warm", one)
    for i in range(rounds):  # in turns, so that a busy minute meets all sizes
        for n in sizes:
            start_up = _built(folder / f"{i}-{n}-one", 1)
            found[n].append((_built(folder / f"{i}-{n}", n) - start_up) / (n - 1))
    ms = {n: 1000 * statistics.median(values) for n, values in found.items()}
    spread = {n: (max(values) - min(values)) / statistics.median(values) for n, values in found.items()}
    return {
        "linear": round(ms[sizes[2]] / ms[sizes[0]], 3),
        "linear_at_4x": round(ms[sizes[1]] / ms[sizes[0]], 3),
        "cpu_ms_per_image": {str(n): round(value, 2) for n, value in ms.items()},
        "cpu_spread": {str(n): round(value, 2) for n, value in spread.items()},
    }


def _built(out: Path, n: int) -> float:
    """CPU seconds of a build of n images with the demo's models. Every caption is parsed: there are the more repeated ones
    the more images there are, and remembering them would hide what an image costs."""
    settings = settings_for(
        out,
        source=SourceSettings(kind="shapes", count=n, size=96),
        samples_per_shard=8,
        pool=PoolSettings(min_count=1, cache_captions=0),
        align=AlignSettings(tau=0.1, threshold=0.2),
        report=False,
    )
    started = time.process_time()
    builds.build(settings, LocalRunner())
    return time.process_time() - started


def hungry(folder: Path, quick: bool) -> dict[str, Any]:
    """One annotator against bare decoding, in turns."""
    from benchmarks import null_models
    from pipeline.rejects import Rejects
    from pipeline.stages.annotate import Annotator

    null_models.use_null_models()
    samples = _samples(null_models.photos(16), 96 if quick else 256)
    annotator = Annotator(settings_for(folder), _vocabulary(), "0" * 16, decode_threads=2)
    some = [samples[i : i + 32] for i in range(0, len(samples), 32)]

    def annotate() -> None:
        with ThreadPoolExecutor(2) as pool:  # as the runners do: one part computes, another decodes or packs
            for part in pool.map(lambda part: annotator(part, Rejects("x")), some):
                assert len(part) == 32

    ratios, rates, cpu = [], [], []
    for i in range(4 if quick else 10):
        marks = [time.process_time()]
        ours = _seconds(annotate)
        marks.append(time.process_time())
        bare = _seconds(lambda: _decode(samples))
        marks.append(time.process_time())
        if i:
            ratios.append(bare / ours)
            rates.append(len(samples) / bare)
            cpu.append((marks[2] - marks[1]) / (marks[1] - marks[0]))
    return {
        "hungry_share": round(statistics.median(ratios), 3),
        "hungry_share_by_cpu_time": round(statistics.median(cpu), 3),
        "hungry_shares": [round(r, 3) for r in ratios],
        "decoded_per_s_of_two_threads": round(statistics.median(rates), 1),
    }


def hungry_on_ray(folder: Path, quick: bool) -> dict[str, Any]:
    """A build on Ray with models that cost nothing, from its first commit to its last, against bare decoding."""
    from benchmarks import null_models
    from jobs.on_ray.build import RayRunner

    n, part = (192, 16) if quick else (2560, 32)
    pictures = null_models.photos(16)
    (folder / "images").mkdir()
    document: dict[str, Any] = {"images": [], "annotations": []}
    for i in range(n):
        (folder / "images" / f"{i:05d}.jpg").write_bytes(pictures[i % len(pictures)] + i.to_bytes(4, "big"))
        document["images"].append({"id": i, "file_name": f"{i:05d}.jpg"})
        document["annotations"].append({"image_id": i, "caption": null_models.CAPTIONS[0]})
    (folder / "captions.json").write_text(json.dumps(document))
    settings = settings_for(
        folder / "out",
        runtime="ray",
        source=SourceSettings(
            kind="coco", images=str(folder / "images"), captions=str(folder / "captions.json")
        ),
        samples_per_shard=part,
        decode_threads=2,
    )

    class Clock(RayRunner):
        def call(self, settings: BuildSettings, function: Any, *arguments: Any) -> Any:
            return function(*arguments)

        def run(self, chain: Any, job: Any, parts: Any) -> Iterator[Any]:
            read, _, commit = chain
            for payload in super().run((read, null_models.FreeAnnotate, commit), job, parts):
                self.times.append(time.perf_counter())
                yield payload

    Clock.times = []
    null_models.use_null_models()
    summary = builds.build(settings, Clock())
    samples = _samples(pictures, 96)
    bare = min(_seconds(lambda: _decode(samples)) for _ in range(4)) / len(samples)
    times = Clock.times[2:]  # the first ones met a worker that had waited for nothing else
    ours = (times[-1] - times[0]) / ((len(times) - 1) * part)
    import ray

    ray.shutdown()
    return {"hungry_share_ray": round(bare / ours, 3), "ray_stages": summary["last_run"]["stages"]}


def _samples(pictures: list[bytes], n: int) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{i:024x}", "source_key": str(i), "source": "", "image": pictures[i % len(pictures)],
            "captions": ["a red ball"], "extra": "", "mentioned": [0],
            "spans": [{"concept_id": 0, "caption": 0, "start": 6, "end": 10}],
        }
        for i in range(n)
    ]  # fmt: skip


def _vocabulary() -> Any:
    from benchmarks.null_models import NullTeacher
    from pipeline.dataset.concepts import Vocabulary

    names = [f"thing {i}" for i in range(100)]
    fields = {"names": names, "embeddings": NullTeacher().encode_text(names), "hash": "0" * 16}
    return Vocabulary(**{f.name: fields[f.name] for f in dataclasses.fields(Vocabulary)})


def _decode(samples: list[dict[str, Any]]) -> None:
    from pipeline.images import decode

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda s: decode(s["image"], 10**8), samples):
            pass


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
