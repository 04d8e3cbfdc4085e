"""Build a concept pool from captions alone: count every concept, write the vocabulary.

python jobs/build_concept_pool.py --source.kind coco --source.captions captions_train2017.json --out runs/pool
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # run as a script: python jobs/build_concept_pool.py
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from concept_pool.build import count_corpus, count_unit
from concept_pool.captions import CaptionSettings, Unit, units
from concept_pool.count import Counts
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings
from jobs.arguments import parse


@dataclass(frozen=True)
class ConceptPoolJob:
    """From captions to a concept pool.

    Attributes:
        out: folder or URL that gets concepts.parquet, rejected.parquet and pool.json
        runtime: local (this process) | ray (a cluster, or this machine)
    """

    out: str = "~/regionpairs/concept_pool"
    runtime: Literal["local", "ray"] = "local"
    source: CaptionSettings = field(default_factory=CaptionSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)


def build_concept_pool(job: ConceptPoolJob) -> None:
    """Count the concepts of a corpus of captions and write the pool."""
    source, pool, out = job.source, job.pool, os.path.expanduser(job.out)
    started = time.perf_counter()
    parts = units(source)
    counts = _count_on_ray(source, parts, pool) if job.runtime == "ray" else _count_here(source, parts, pool)
    built = ConceptPool.from_counts(counts, pool)
    built.save(out)
    print(
        f"{len(built)} concepts named by {pool.min_count} images or more (of {len(built.table)} names), "
        f"{counts.n_captions} captions of {counts.n_images} images, "
        f"{time.perf_counter() - started:.0f} s: {out}"
    )


def _count_here(source: CaptionSettings, parts: list[Unit], pool: PoolSettings) -> Counts:
    from tqdm import tqdm

    with tqdm(total=len(parts), unit="unit", disable=None) as bar:

        def on_unit(counts: Counts) -> None:
            bar.set_postfix(captions=counts.n_captions, names=len(counts.within))
            bar.update()

        return count_corpus(source, parts, pool, on_unit)


def _count_on_ray(source: CaptionSettings, parts: list[Unit], pool: PoolSettings) -> Counts:
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)

    @ray.remote
    def count(unit: Unit) -> Any:
        return count_unit(source, unit, pool).to_table()

    @ray.remote
    def merge(left: Any, right: Any) -> Any:
        return Counts.from_table(left).merge(Counts.from_table(right)).to_table()

    refs = [count.remote(unit) for unit in parts]
    while len(refs) > 1:
        refs = [merge.remote(*pair) if len(pair) == 2 else pair[0] for pair in zip_pairs(refs)]
    return Counts.from_table(ray.get(refs[0])) if refs else Counts(max_examples=pool.max_examples)


def zip_pairs(items: list[Any]) -> list[list[Any]]:
    """Neighbours in pairs; the last may be alone."""
    return [items[i : i + 2] for i in range(0, len(items), 2)]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: the pool is written; 1: the captions cannot be read; 2: the command line is wrong."""
    job = parse(ConceptPoolJob, argv, description=__doc__ or "", validate=validate)
    try:
        build_concept_pool(job)
    except (FileNotFoundError, ValueError) as error:
        print(f"build_concept_pool: {error}", file=sys.stderr)
        return 1
    return 0


def validate(job: ConceptPoolJob) -> None:
    if not job.source.captions:
        raise ValueError("source.captions: is empty")


if __name__ == "__main__":
    raise SystemExit(main())
