"""Pools side by side and in other formats: diff, extend, merge, RegionCLIP's `concept,count` lists."""

from __future__ import annotations

from dataclasses import dataclass

from concept_pool.pool import ConceptPool


@dataclass(frozen=True)
class PoolDiff:
    """What changed between the classes of two pools: (name, n_images) gained and lost, (name, old id, new id)
    moved.
    """

    n_old: int
    n_new: int
    added: list[tuple[str, int]]
    removed: list[tuple[str, int]]
    moved: list[tuple[str, int, int]]


def diff_pools(old: ConceptPool, new: ConceptPool) -> PoolDiff:
    """Classes of `new` that are none of `old`, the other way round, and those of both with another id."""
    ids = [{name: i for i, name in enumerate(pool.names)} for pool in (old, new)]
    counts = [dict(zip(pool.names, pool.table["n_images"].to_pylist(), strict=False)) for pool in (old, new)]
    return PoolDiff(
        len(old),
        len(new),
        [(name, counts[1][name]) for name in new.names if name not in ids[0]],
        [(name, counts[0][name]) for name in old.names if name not in ids[1]],
        [(name, i, ids[1][name]) for name, i in ids[0].items() if ids[1].get(name, i) != i],
    )
