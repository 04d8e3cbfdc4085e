"""Build a concept pool from captions alone: count every concept, write the vocabulary.

python jobs/build_concept_pool.py --source.kind coco --source.captions captions_train2017.json --out runs/pool
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec
from tqdm import tqdm

from concept_pool.build import count_corpus, count_unit, merge_tables, write_index
from concept_pool.captions import CaptionSettings, Unit, units
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs.arguments import parse

MERGE_WIDTH = 8


@dataclass(frozen=True)
class ConceptPoolJob:
    """From captions to a concept pool.

    Attributes:
        out: folder or URL that gets concepts.parquet, rejected.parquet and pool.json
        runtime: local (this process) | ray (a cluster, or this machine)
        caption_index: also write caption_index.parquet: the concept ids that each image's captions name
    """

    out: str = "~/regionpairs/concept_pool"
    runtime: Literal["local", "ray"] = "local"
    caption_index: bool = False
    source: CaptionSettings = field(default_factory=CaptionSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)


def build_concept_pool(job: ConceptPoolJob) -> ConceptPool:
    """Count the concepts of a corpus of captions and write the pool."""
    out = job.out if "://" in job.out else str(Path(job.out).expanduser())
    fs, folder = fsspec.core.url_to_fs(out)
    mentions = f"{folder}/.mentions"
    fs.makedirs(mentions if job.caption_index else folder, exist_ok=True)
    parts = units(job.source)
    names = [f"{out}/.mentions/{i:06d}.parquet" if job.caption_index else None for i in range(len(parts))]
    count = _count_on_ray if job.runtime == "ray" else _count_here
    counts = count(job, parts, names)
    built = ConceptPool.from_counts(counts, job.pool)
    built.save(out)
    if job.caption_index:
        write_index([name for name in names if name], built, f"{out}/caption_index.parquet")
        fs.rm(mentions, recursive=True)
    return built


def _count_here(job: ConceptPoolJob, parts: list[Unit], mentions: list[str | None]) -> Counts:
    with tqdm(unit=" captions", disable=None) as bar:
        return count_corpus(
            job.source, parts, job.pool, mentions.__getitem__, lambda n: bar.update(n) and None
        )


def _count_on_ray(job: ConceptPoolJob, parts: list[Unit], mentions: list[str | None]) -> Counts:
    """Units as tasks, counts merged as a tree; at most a few tasks a CPU are in flight, whatever the corpus."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    count = ray.remote(_count_table).options(num_cpus=1)
    merge = ray.remote(_merge_all).options(num_cpus=1)
    window = max(4, int(3 * ray.cluster_resources().get("CPU", 1)))
    levels: list[list[Any]] = [[]]
    running: set[Any] = set()
    with tqdm(total=len(parts), unit=" units", disable=None) as bar:
        for unit, url in zip(parts, mentions, strict=True):
            if len(running) >= window:
                done, left = ray.wait(list(running), num_returns=1)
                ray.get(done)  # an error of a task ends the job
                running = set(left)
                bar.update(len(done))
            ref = count.remote(job.source, unit, job.pool, url)
            running.add(ref)
            _add(levels, ref, merge)
        tables = ray.get([ref for level in levels for ref in level])
        bar.update(len(running))
    return Counts.from_table(merge_tables(tables))


def _add(levels: list[list[Any]], ref: Any, merge: Any) -> None:
    """Put a table into the tree: `MERGE_WIDTH` tables of a level become one of the next."""
    depth = 0
    levels[0].append(ref)
    while len(levels[depth]) == MERGE_WIDTH:
        merged = merge.remote(*levels[depth])
        levels[depth] = []
        depth += 1
        if depth == len(levels):
            levels.append([])
        levels[depth].append(merged)


def _count_table(source: CaptionSettings, unit: Unit, pool: PoolSettings, mentions: str | None) -> Any:
    return count_unit(source, unit, pool, mentions).to_table()


def _merge_all(*tables: Any) -> Any:
    return merge_tables(tables)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: the pool is written; 1: the captions cannot be read; 2: the command line is wrong."""
    job = parse(ConceptPoolJob, argv, description=__doc__ or "", validate=validate)
    started = time.perf_counter()
    try:
        built = build_concept_pool(job)
    except (FileNotFoundError, ValueError) as error:
        print(f"build_concept_pool: {error}", file=sys.stderr)
        return 1
    print(
        f"{len(built)} concepts (of {len(built.table)} names) from {built.about['n_captions']} captions of "
        f"{built.about['n_images']} images, {time.perf_counter() - started:.0f} s: {job.out}"
    )
    return 0


def validate(job: ConceptPoolJob) -> None:
    if not job.source.captions:
        raise ValueError("source.captions: is empty")


if __name__ == "__main__":
    raise SystemExit(main())
