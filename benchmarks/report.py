"""What the report of a large dataset costs: seconds, memory, and the size of the page.

    python benchmarks/report.py --quick
    python benchmarks/report.py                # 10^6 images too
    python benchmarks/report.py --quick --concepts 100000 --row-concepts 600     # a large pool

A few shards are built, with the demo's models. Then the manifest is made that of 10^5 (10^6) images: its other rows
name shards that are not there, so that reading one more would end the report. Each size is measured in a process of
its own, as `regionpairs report` is run, `--row-concepts` concepts counted in a row, if the pool has so many.

The last line is JSON: `seconds_at_1e5`, `rss_mib` (peak, of the largest size; the libraries' own is `rss_mib_small`,
the report of the few shards alone), `html_mb`; without --quick `seconds_at_1e6` too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from concept_pool.settings import PoolSettings

ROOT = Path(__file__).resolve().parents[1]
REAL_SHARDS, REAL_IMAGES = 8, 24
PER_SHARD = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10^5 images only: under 50 s on 2 cores")
    parser.add_argument("--row-concepts", type=int, default=200, help="concepts counted in a manifest row")
    parser.add_argument(
        "--concepts", type=int, default=0, help="classes of the pool, made-up names among them"
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    result: dict[str, Any] = {"quick": options.quick, "load_average": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        out = Path(folder, "data")
        build(out)
        if options.concepts:
            pool = large_pool(out, Path(folder), options.concepts)
            out = Path(folder, "large")
            build(out, pool)
        small = pq.read_table(out / "manifest.parquet")
        result |= {"concepts": options.concepts, "rss_mib_small": in_a_process(out)["rss_mib"]}
        for name, n in (("1e5", 10**5), *(() if options.quick else (("1e6", 10**6),))):
            grow(out, small, n, options.row_concepts)
            found = in_a_process(out)
            result |= {
                f"seconds_at_{name}": found["seconds"],
                "rss_mib": found["rss_mib"],
                "html_mb": found["html_mb"],
            }
            print(json.dumps(result), flush=True)


def large_pool(out: Path, folder: Path, n_concepts: int) -> PoolSettings:
    """The pool of the dataset with made-up classes behind its own, `n_concepts` in all, under one template."""
    from concept_pool.compare import extend_pool
    from concept_pool.settings import PoolSettings
    from pipeline.dataset import Dataset

    pool = Dataset.open(str(out)).pool
    names = [f"thing number {i}" for i in range(n_concepts - len(pool.names))]
    extend_pool(pool, names)[0].save(str(folder / "pool"))
    (folder / "templates.txt").write_text("{}\n")
    return PoolSettings(path=str(folder / "pool"), templates=str(folder / "templates.txt"))


def build(out: Path, pool: PoolSettings | None = None) -> None:
    """The few shards that the report looks into."""
    from concept_pool.settings import PoolSettings
    from pipeline.build import build as run
    from pipeline.localizers.settings import LocalizerSettings
    from pipeline.run_local import LocalRunner
    from pipeline.settings import BuildSettings
    from pipeline.sources.settings import SourceSettings
    from pipeline.teachers.settings import TeacherSettings

    settings = BuildSettings(
        out=str(out),
        runtime="local",
        source=SourceSettings(kind="shapes", count=REAL_SHARDS * REAL_IMAGES),
        localizer=LocalizerSettings(kind="grid", max_proposals=16),
        teacher=TeacherSettings(kind="shapes", batch_images=16),
        pool=pool or PoolSettings(),
        samples_per_shard=REAL_IMAGES,
        report=False,
    )
    run(settings, LocalRunner())


def grow(out: Path, small: pa.Table, n_images: int, row_concepts: int) -> None:
    """Makes the manifest that of `n_images`. Real shards have the lowest hashes, so that they are the ones looked into."""
    rows = small.to_pylist()
    n_concepts = pq.read_table(out / "concept_pool" / "concepts.parquet", columns=["is_class"])["is_class"]
    classes = sum(n_concepts.to_pylist())
    random = np.random.default_rng(0)
    for i in range(n_images // PER_SHARD - len(rows)):
        part = f"{i + 900_000:06d}-{hashlib.sha256(str(i).encode()).hexdigest()[:12]}"
        ids = np.sort(random.choice(classes, min(row_concepts, classes), replace=False))
        rows.append(
            {
                **rows[0],
                "n_read": PER_SHARD,
                "n_samples": PER_SHARD,
                "n_rejected": 0,
                "shard": f"{part}.tar",
                "part": part,
                "sha256": "f" * 16 + hashlib.sha256(part.encode()).hexdigest()[16:],
                "concept_ids": ids.tolist(),
                "concept_counts": random.integers(1, 9, len(ids)).tolist(),
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, small.schema), out / "manifest.parquet")


def in_a_process(out: Path) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--measure", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(out: str) -> dict[str, float]:
    """Seconds of the report with its imports, peak memory of this process, size of the page."""
    from jobs.cli import main as regionpairs

    started = time.perf_counter()
    page = Path(out).with_suffix(".html")
    assert regionpairs(["report", out, "--out", str(page)]) == 0
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "html_mb": round(page.stat().st_size / 1e6, 2),
    }


if __name__ == "__main__":
    main()
