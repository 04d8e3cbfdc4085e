"""Which samples of a dataset people look at: a few, chosen from the manifest alone, read by byte range."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import storage
from pipeline.dataset import Dataset, Sample, ShardRow


def spread(shards: Sequence[ShardRow], n: int) -> list[tuple[ShardRow, int]]:
    """`n` samples as (shard, position in it): one of each shard in turn, until there are enough.

    Shards are taken by rising sha256, samples of a shard by rising key. Both are hashes of content, so the choice is
    spread over the dataset, is the same every time, and does not depend on the order of the input.
    """
    chosen: list[tuple[ShardRow, int]] = []
    waiting = sorted(shards, key=lambda s: s.sha256)
    position = 0
    while waiting and len(chosen) < n:
        waiting = [shard for shard in waiting if shard.n_samples > position]
        chosen += [(shard, position) for shard in waiting[: n - len(chosen)]]
        position += 1
    return chosen


def read(dataset: Dataset, chosen: Sequence[tuple[ShardRow, int]]) -> Iterator[Sample]:
    """The samples at these places, shard by shard: an index a shard and a byte range a sample are read, never a tar."""
    places: dict[int, list[int]] = {}
    numbers = {shard.name: i for i, shard in enumerate(dataset.shards)}
    for shard, position in chosen:
        places.setdefault(numbers[shard.name], []).append(position)
    for number, positions in places.items():
        index = dataset.shard_index(number)
        for position in positions:
            offsets = index.offsets[position].tolist()
            start = min(offsets)
            data = storage.read_bytes(dataset.shards[number].url, start, max(offsets))
            image, meta, arrays = (
                data[a - start : b - start] for a, b in zip(offsets[::2], offsets[1::2], strict=True)
            )
            key = index.keys[position].decode("ascii")
            yield Sample.parse(key, {"image": image, "json": meta, "npz": arrays})


def plain(text: str, length: int) -> str:
    """One line of at most `length` characters, without control characters, for a picture or a terminal."""
    spaced = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[: 8 * length])
    line = " ".join(spaced.split())
    return line if len(line) <= length and len(text) <= 8 * length else line[: length - 1].rstrip() + "…"
