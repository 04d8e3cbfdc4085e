"""Build a concept pool from captions alone: count every concept, write the vocabulary.

python jobs/build_concept_pool.py --source.kind coco --source.captions captions_train2017.json --out runs/pool
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import storage
from concept_pool.build import count_unit, merge_tables, write_index
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs import job_log
from jobs.arguments import parse
from jobs.failures import failure
from jobs.progress import watched
from pipeline import sources
from pipeline.sources import SourceSettings, Unit
from pipeline.standing import Standing, tell


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
    source: SourceSettings = field(default_factory=SourceSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)


def build_concept_pool(job: ConceptPoolJob) -> ConceptPool:
    """Count the concepts of a corpus of captions and write the pool. ValueError where it holds no captions at all, and
    where another program writes into the folder."""
    out = storage.location(job.out, "out", write=True)
    with storage.Claim.acquire(out, {"program": "regionpairs concept pool"}):
        return _build(job, out)


def _build(job: ConceptPoolJob, out: str) -> ConceptPool:
    parts = sources.load(job.source, captions_only=True).units()
    names = [
        storage.join(out, ".mentions", f"{i:06d}.parquet") if job.caption_index else None
        for i in range(len(parts))
    ]
    # How many samples the units before one hold is known only to who reads them in order.
    count = _count_on_ray if job.runtime == "ray" and not job.source.limit else _count_here
    counts = count(job, parts, names)
    if not counts.n_captions:
        raise ValueError(f"source: no caption was found in {len(parts)} units of kind {job.source.kind}")
    built = ConceptPool.from_counts(counts, job.pool)
    built.save(out)
    if job.caption_index:
        mentions = [name for name in names if name]
        write_index(mentions, built, storage.join(out, "caption_index.parquet"))
        for name in mentions:
            storage.remove(name)
    return built


def images_of(source: sources.Source, unit: Unit) -> Iterator[tuple[str, list[str]]]:
    """(key, captions) of every sample of a unit, whether its image can be used or not.

    Left out are rows that are no samples: a second row of the same image, and what a damaged file has lost.
    """
    for row in source.index(unit):
        problem = row["problem"]
        if not problem.startswith("duplicate_key") and (
            row["captions"] or not problem.startswith("damaged_")
        ):
            yield row["source_key"], row["captions"]


def _count_here(job: ConceptPoolJob, parts: list[Unit], mentions: list[str | None]) -> Counts:
    source = sources.load(job.source, captions_only=True)
    counts = Counts(max_examples=job.pool.max_examples)
    remaining, n_captions, done = job.source.limit or sys.maxsize, 0, 0

    def add(n: int) -> None:
        nonlocal n_captions
        n_captions += n
        tell(Standing("captions", "units", done, len(parts), current=f"{n_captions} captions"))

    for unit, url in zip(parts, mentions, strict=True):
        images = itertools.islice(images_of(source, unit), remaining)
        found = count_unit(images, job.pool, url, add)
        remaining -= found.n_images
        counts.merge(found)
        done += 1
    tell(Standing("captions", "units", len(parts), len(parts), current=f"{n_captions} captions"))
    return counts


def _count_on_ray(job: ConceptPoolJob, parts: list[Unit], mentions: list[str | None]) -> Counts:
    from jobs.on_ray.merging import merged_tasks

    done = 0

    def add(n: int) -> None:
        nonlocal done
        done += n
        tell(Standing("captions", "units", done, len(parts)))

    work = [(job.source, unit, job.pool, url) for unit, url in zip(parts, mentions, strict=True)]
    tables = merged_tasks(_count_table, _merge_all, work, add)
    return Counts.from_table(merge_tables(tables))


def _count_table(settings: SourceSettings, unit: Unit, pool: PoolSettings, mentions: str | None) -> Any:
    return count_unit(images_of(_source(settings), unit), pool, mentions).to_table()


@functools.lru_cache(maxsize=1)
def _settings_source(document: str) -> sources.Source:
    """A worker's source: what it has read of a large captions file serves the next unit too."""
    return sources.load(SourceSettings(**json.loads(document)), captions_only=True)


def _source(settings: SourceSettings) -> sources.Source:
    return _settings_source(json.dumps(dataclasses.asdict(settings)))


def _merge_all(*tables: Any) -> Any:
    return merge_tables(tables)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 the pool is written; 1 a disk or a network failed; 2 a setting is wrong, or it names no captions."""
    job = parse(ConceptPoolJob, argv, description=__doc__ or "")
    started = time.perf_counter()
    job_log.begin()
    try:
        with watched():
            built = build_concept_pool(job)
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("build_concept_pool.py", e)
    print(
        f"{len(built)} concepts (of {len(built.table)} names) from {built.about['n_captions']} captions of "
        f"{built.about['n_images']} images, {time.perf_counter() - started:.0f} s: {job.out}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
