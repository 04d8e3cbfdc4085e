"""What new labels cost: a dataset of synthetic scenes built, then relabelled with another pool, policy and threshold, with
its images and without.

1000 images of 100 regions (`--quick`: 200), the demo's teacher, embeddings in int8, one worker of one thread for both. Both
times are of whole calls in one process: plan or copies, the pool's embeddings, every shard read, packed, fsynced and
committed. `ratio` is of wall clock, `cpu_ratio` of the CPU seconds that this process got, which a machine that others use
hardly changes. The ratio grows with the teacher: this one is among the cheapest there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.shared_data import find_shared_data
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.localizers.settings import LocalizerSettings
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings

#: Relabellings of each sort, in turns; medians count.
TURNS = 3


def spent(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` returns, the seconds that passed and the CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="200 images: under 50 s on 2 cores")
    parser.add_argument(
        "--photos", action="store_true", help="the 287 photographs of the shared data in place of scenes"
    )
    options = parser.parse_args()
    source = SourceSettings(kind="shapes", count=200 if options.quick else 1000)
    if options.photos:
        data = find_shared_data()
        if data is None:
            raise SystemExit("needs the real photographs in ../shared/data")
        photos = data / "coco_photos"
        source = SourceSettings("coco", images=str(photos / "images"), captions=str(photos / "captions.json"))
    with tempfile.TemporaryDirectory() as folder:
        settings = BuildSettings(
            out=str(Path(folder) / "built"),
            runtime="local",
            source=source,
            localizer=LocalizerSettings(kind="rpn-lite", max_proposals=100),
            teacher=TeacherSettings(kind="shapes", batch_images=16),
            pool=PoolSettings(min_count=4),
            align=AlignSettings(tau=0.08, threshold=0.5, region_embeddings="int8"),
            samples_per_shard=50,
            workers=1,
        )
        _, build_s, build_cpu_s = spent(lambda: build(settings, LocalRunner()))
        pool = ConceptPool.load(f"{settings.out}/concept_pool")
        classes = pool.table.filter(pool.table["is_class"])
        other = ConceptPool(classes.slice(0, len(classes) // 2), pool.rejected, pool.about)
        other.save(str(Path(folder) / "pool"))
        wanted = dataclasses.replace(settings.align, policy="pool", threshold=0.3)
        changed = dataclasses.replace(
            settings,
            out=str(Path(folder) / "relabelled"),
            align=wanted,
            pool=dataclasses.replace(settings.pool, path=str(Path(folder) / "pool")),
        )
        runs: dict[str, list[tuple[float, float]]] = {"whole": [], "labels": []}
        summaries = {}
        for turn in range(TURNS):
            for name in runs:
                one = dataclasses.replace(changed, out=str(Path(folder) / f"{name}-{turn}"))
                begin = spent(
                    lambda one=one, name=name: relabel(settings.out, one, LocalRunner(), name == "labels")
                )
                summaries[name] = begin[0]
                runs[name].append(begin[1:])
    summary, alone = summaries["whole"], summaries["labels"]
    (relabel_s, relabel_cpu_s), (labels_s, labels_cpu_s) = (
        [statistics.median(values) for values in zip(*found, strict=True)] for found in runs.values()
    )
    row = {"images": summary["n_samples"], "regions": summary["n_regions"], "concepts": len(other.names)}
    row |= {
        "build_s": round(build_s, 2),
        "relabel_s": round(relabel_s, 2),
        "ratio": round(build_s / relabel_s, 1),
        "build_cpu_s": round(build_cpu_s, 2),
        "relabel_cpu_s": round(relabel_cpu_s, 2),
        "cpu_ratio": round(build_cpu_s / relabel_cpu_s, 1),
        "bytes": summary["n_bytes"],
        "labels_only_bytes": alone["n_bytes"],
        "labels_only_s": round(labels_s, 2),
        "labels_only_cpu_s": round(labels_cpu_s, 2),
        "labels_only_cpu_ratio": round(relabel_cpu_s / labels_cpu_s, 2),
        "relabel_stage_seconds": summary["stage_seconds"],
        "labels_only_stage_seconds": alone["stage_seconds"],
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
