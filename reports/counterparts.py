"""The samples of one dataset in another one."""

from __future__ import annotations

from collections.abc import Sequence

import storage
from pipeline.dataset import Dataset, ShardRow
from reports.choose import read
from reports.look import Seen, seen_of

#: Shards of the other dataset whose indices are looked into where its parts have other names.
MAX_SHARDS = 64
#: Shard indices that are asked for at once.
THREADS = 16


def counterparts(seen: Sequence[Seen], other: Dataset) -> dict[str, Seen]:
    """Key -> the sample of `other` with that key (the same picture of the same source), of those that are found.

    Looks first where a dataset with the same plan, or one made of this one, has them: in the shard of the same part.
    What is not there is looked for in at most `MAX_SHARDS` other shards, those of lowest sha256.
    """
    wanted = {s.key for s in seen}
    by_part = {shard.part: shard for shard in other.shards}
    parts = {s.place[0].part for s in seen}
    places = _places([by_part[p] for p in sorted(parts & by_part.keys())], wanted)
    if missing := wanted - places.keys():
        rest = [shard for shard in other.shards if shard.part not in parts]
        places |= _places(sorted(rest, key=lambda s: s.sha256)[:MAX_SHARDS], missing)
    n_concepts = len(other.pool.names)
    return {
        sample.key: seen_of(sample, places[sample.key], n_concepts, decoded=False)
        for sample in read(other, list(places.values()))
    }


def _places(shards: Sequence[ShardRow], wanted: set[str]) -> dict[str, tuple[ShardRow, int]]:
    """Key -> where it lies, of the wanted keys that these shards hold; their indices alone are read."""
    tables = storage.map_threads(lambda shard: shard.places(["key"]), shards, THREADS)
    return {
        key: (shard, position)
        for shard, table in zip(shards, tables, strict=True)
        for position, key in enumerate(table["key"].to_pylist())
        if key in wanted
    }
