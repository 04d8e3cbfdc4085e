"""What the pipeline costs: the same models over the same images as a bare loop, as the local and as the Ray pipeline.

The bare loop reads, decodes, proposes, encodes and aligns, on all cores, and keeps nothing; it is written in two ways
(one loop on all cores; a loop a core), and the faster one counts. The pipeline also plans,
commits shards and keeps its ledger. Of a pipeline
the time counts from the start of its first part's compute to its last commit: start-up (Ray, importing torch, loading
weights) is left out, but the first call of every model, and a worker that comes later than another, are in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from concept_pool.settings import PoolSettings
from jobs.on_ray.build import RayRunner
from pipeline import build as builds
from pipeline import localizers, sources, teachers
from pipeline.align import align
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts
from pipeline.images import decode
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.runner import Runner
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.stages.chain import Job, Payload
from pipeline.teachers.settings import TeacherSettings
from world import scenes

#: What of a dataset is written while the clock runs; the rest is taken over.
NOT_MEASURED = {"shards", "index", "manifest", "manifest.parquet", "rejects.parquet", "summary.json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images: under 50 s on 2 cores")
    parser.add_argument("--teacher", default="photo", help="teacher.kind (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=480, help="side of the images in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds, of which the median counts (default: %(default)s)"
    )
    arguments = parser.parse_args()
    n, part, repeats = (24, 4, 1) if arguments.quick else (192, 8, arguments.repeats)
    with tempfile.TemporaryDirectory() as folder:
        source = write_images(Path(folder), n, arguments.size)
        Path(folder, "templates.txt").write_text(
            "{}\n"
        )  # the pool is made once a dataset and is not measured
        ray_runner = RayRunner()
        rounds = []
        for i in range(repeats):
            settings = BuildSettings(
                out=f"{folder}/{i}",
                source=source,
                localizer=LocalizerSettings(kind="rpn-lite"),
                teacher=TeacherSettings(kind=arguments.teacher),
                pool=PoolSettings(min_count=1, templates=f"{folder}/templates.txt"),
                samples_per_shard=part,
            )
            local, out = rate(settings, LocalRunner(), "local")
            ray_rate, _ = rate(settings, ray_runner, "ray", pool_of=out)
            one = (
                0.0 if arguments.quick else bare_rate(settings, out, 1)
            )  # the slower one, where cores are few
            side_by_side = bare_rate(settings, out, os.cpu_count() or 1)
            bare = max(one, side_by_side)  # the better of the two ways to write that loop
            rounds.append(
                {
                    "bare": bare,
                    "bare_one_loop": one,
                    "bare_side_by_side": side_by_side,
                    "local": local,
                    "ray": ray_rate,
                }
            )
            print({k: round(v, 2) for k, v in rounds[-1].items()}, "images/s", flush=True)
    middle = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
    result = {
        # bare seconds / pipeline seconds: 1 is a pipeline that costs nothing
        "bare_over_local": round(statistics.median(r["local"] / r["bare"] for r in rounds), 3),
        "bare_over_ray": round(statistics.median(r["ray"] / r["bare"] for r in rounds), 3),
        **{f"{k}_images_per_s": round(v, 2) for k, v in middle.items()},
        "n_images": n,
        "rounds": repeats,
        "teacher": arguments.teacher,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
    }
    print(json.dumps(result))


def write_images(folder: Path, n: int, size: int) -> SourceSettings:
    """`n` scenes as JPEG files with their captions, as a COCO folder."""
    (folder / "images").mkdir()
    document: dict[str, Any] = {"images": [], "annotations": []}
    for i in range(n):
        scene = scenes.draw_scene(0, i, size)
        (folder / "images" / f"{i:05d}.jpg").write_bytes(scenes.encode_jpeg(scene.image))
        document["images"].append({"id": i, "file_name": f"{i:05d}.jpg"})
        document["annotations"] += [{"image_id": i, "caption": c} for c in scene.captions]
    (folder / "captions.json").write_text(json.dumps(document))
    return SourceSettings(kind="coco", images=str(folder / "images"), captions=str(folder / "captions.json"))


def rate(settings: BuildSettings, runner: Runner, name: str, pool_of: str | None = None) -> tuple[float, str]:
    """Images/s of a pipeline, from the start of its first part's compute to its last commit; and the folder it wrote.

    pool_of: a dataset of the same settings whose plan and pool are taken over, since they are not measured.
    """
    clock = _Clock(runner)
    out = f"{settings.out}-{name}"
    if pool_of:
        shutil.copytree(
            pool_of,
            out,
            ignore=lambda at, names: {*names} & NOT_MEASURED if at == pool_of else set(),
        )
    builds.build(BuildSettings(**{**vars(settings), "out": out}), clock)
    return clock.n_images / (clock.ended - clock.started), out


class _Clock:
    """A runner that notes when the first part's compute began, when the last part was committed, and the images."""

    def __init__(self, runner: Runner):
        self._runner = runner
        self.map, self.call = runner.map, runner.call
        self.stages, self.stored_bytes = runner.stages, runner.stored_bytes
        self.started, self.ended, self.n_images = float("inf"), 0.0, 0

    def run(self, stages: Sequence[Any], job: Job, parts: Parts) -> Iterator[Payload]:
        for payload in self._runner.run(stages, job, parts):
            self.ended = time.perf_counter()
            seconds = payload.seconds
            self.started = min(self.started, self.ended - seconds["compute"] - seconds["write"])
            self.n_images += payload.row["n_samples"]
            yield payload


def bare_rate(settings: BuildSettings, built: str, workers: int) -> float:
    """Images/s of a plain loop with the models of `settings` and the pool of the dataset `built`, on all cores.

    workers 1: one loop, its tensors split over all cores; more: so many loops side by side, one torch thread each.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    words = vocabulary.load_vocabulary(Layout(built))
    source = sources.load(settings.source)
    localizer, teacher = localizers.load(settings.localizer), teachers.load(settings.teacher)
    rows = [row for unit in source.units() for row in source.index(unit)]
    size = min(settings.teacher.batch_images, settings.samples_per_shard)
    chunks = [rows[i : i + size] for i in range(0, len(rows), size)]

    def work(chunk: list[dict[str, Any]]) -> None:
        torch.set_num_threads(threads)
        images = [decode(source.read(r))[0] for r in chunk]
        proposals = localizer(images)
        regions = teacher.encode_regions(images, [p.boxes_xyxy_norm for p in proposals])
        teacher.encode_text([c for r in chunk for c in r["captions"]])
        for region in regions:
            align(region, words.embeddings, [], settings.align)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, chunks[:workers]))  # warm-up
        started = time.perf_counter()
        list(pool.map(work, chunks))
        return len(rows) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
