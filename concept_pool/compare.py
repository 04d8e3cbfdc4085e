"""Pools side by side and in other formats: diff, merge, extend, RegionCLIP's `concept,count` lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import storage
from concept_pool.count import Counts
from concept_pool.pool import REJECTED, ConceptPool, concept_table
from concept_pool.settings import PoolSettings


@dataclass(frozen=True)
class PoolDiff:
    """What changed between the classes of two pools.

    (name, n_images) of those gained and lost, (name, old id, new id) of those that moved.
    """

    n_old: int
    n_new: int
    added: list[tuple[str, int]]
    removed: list[tuple[str, int]]
    moved: list[tuple[str, int, int]]


def diff_pools(old: ConceptPool, new: ConceptPool) -> PoolDiff:
    """Classes of `new` that are none of `old`, the other way round, and those of both with another id."""
    ids = [{name: i for i, name in enumerate(pool.names)} for pool in (old, new)]
    counts = [pool.table["n_images"].to_pylist() for pool in (old, new)]
    return PoolDiff(
        len(old),
        len(new),
        [(name, counts[1][i]) for name, i in ids[1].items() if name not in ids[0]],
        [(name, counts[0][i]) for name, i in ids[0].items() if name not in ids[1]],
        [(name, i, ids[1][name]) for name, i in ids[0].items() if ids[1].get(name, i) != i],
    )


def merge_pools(pools: Sequence[ConceptPool], settings: PoolSettings) -> ConceptPool:
    """The pool of several corpora that share no image, as if they had been counted together."""
    total = Counts(max_examples=settings.max_examples)
    for pool in pools:
        total.merge(Counts.from_concepts(pool.table, pool.rejected, pool.about, settings.max_examples))
    return ConceptPool.from_counts(total, settings)


def extend_pool(
    pool: ConceptPool, names: Sequence[str], first: bool = False
) -> tuple[ConceptPool, list[int]]:
    """The pool with more classes, and the class id of each of `names`, in their order.

    A name that a class already has, as name or alias, adds nothing. By default the classes of `pool` keep their
    ids and new ones follow, in the order of `names`. With `first` the names take the ids 0, 1, ... in their order (so
    that a detector's own label ids hold), under the spelling given here, and the other classes follow in theirs.
    ValueError where two of `names` are one class and `first` is asked for.
    """
    wanted = [" ".join(name.lower().split()) for name in names]
    rows = pool.table.to_pylist()
    by_name = {name: row for row in reversed(rows) for name in (*row["aliases"], row["name"])}
    by_name.update({row["name"]: row for row in reversed(rows)})
    for name in wanted:
        if name not in by_name:
            by_name[name] = _new_row(name)
            rows.append(by_name[name])
    chosen = list({id(by_name[name]): by_name[name] for name in wanted}.values())
    if first:
        if len(chosen) < len(wanted):
            raise ValueError(f"two of the names are one class: {len(wanted)} names, {len(chosen)} classes")
        for name, row in zip(wanted, chosen, strict=True):
            _rename(row, name)
    classes = [row for row in rows if row["is_class"]]
    head = chosen + [row for row in classes if all(row is not other for other in chosen)]
    order = head if first else classes + [row for row in chosen if not row["is_class"]]
    for row in order:
        row["is_class"] = True
    rest = [row for row in rows if not row["is_class"]]
    extended = ConceptPool(concept_table([*order, *rest]), pool.rejected, pool.about)
    ids = {id(row): i for i, row in enumerate(order)}
    return extended, [ids[id(by_name[name])] for name in wanted]


def read_regionclip(url: str) -> ConceptPool:
    """A pool from RegionCLIP's text format: a line `concept,count` a class, row order = class index."""
    lines = [line.strip() for line in storage.read_text(storage.absolute(url)).splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines, start=1):
        name, comma, count = line.rpartition(",")
        if not comma or not count.strip().isdigit():
            raise ValueError(f"{url}, line {number}: concept,count expected, got {line!r}")
        rows.append(
            _new_row(name.strip()) | {"n_images": int(count), "meets_threshold": True, "is_class": True}
        )
    return ConceptPool(concept_table(rows), REJECTED.empty_table(), {"imported_from": "concept,count"})


def write_regionclip(pool: ConceptPool, url: str) -> None:
    """The classes as RegionCLIP's text format: `concept,count`, in id order; the count is `n_images`."""
    counts = pool.table["n_images"].to_pylist()
    lines = [f"{name},{counts[i]}\n" for i, name in enumerate(pool.names)]
    storage.write_bytes(storage.absolute(url), "".join(lines).encode())


def _new_row(name: str) -> dict[str, Any]:
    counts = {"n_images": 0, "n_mentions": 0, "n_images_within": 0}
    return {
        "name": name,
        "aliases": [],
        **counts,
        "meets_threshold": False,
        "is_class": False,
        "examples": [],
    }


def _rename(row: dict[str, Any], name: str) -> None:
    if row["name"] != name:
        row["aliases"] = sorted({*row["aliases"], row["name"]} - {name})
        row["name"] = name
