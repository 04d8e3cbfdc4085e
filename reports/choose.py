"""Which samples of a dataset people look at: a few, chosen from the manifest alone, read by byte range."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from pipeline.dataset import Dataset, Sample, ShardRow
from pipeline.dataset.damage import reading
from pipeline.dataset.random_access import ShardIndex, ordinal_of, parse_index


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
    places: dict[str, list[int]] = {}
    for shard, position in chosen:
        places.setdefault(shard.name, []).append(position)
    for shard in dataset.shards:
        if shard.name in places:
            index = _index(shard)
            for position in places[shard.name]:
                yield from _range(shard, index, position, position + 1)


def read_first(shard: ShardRow, n: int, max_bytes: int) -> Iterator[Sample]:
    """The first samples of a shard, at most `n` and at least one, in one byte range of about `max_bytes` at most."""
    index = _index(shard)
    ends = index.offsets.max(axis=1)
    fitting = int((ends - index.offsets[0].min() <= max_bytes).sum())
    yield from _range(shard, index, 0, max(1, min(n, fitting)))


def _index(shard: ShardRow) -> ShardIndex:
    return parse_index(shard.read(shard.index_url), shard)


def _range(shard: ShardRow, index: ShardIndex, first: int, stop: int) -> Iterator[Sample]:
    """Samples first .. stop - 1 of a shard, which lie side by side in it."""
    start = int(index.offsets[first].min())
    data = shard.read(shard.url, start, int(index.offsets[stop - 1].max()))
    images = _index(shard.images) if shard.images else None
    for position in range(first, stop):
        spans = (index.offsets[position].reshape(3, 2) - start).tolist()
        image, meta, arrays = (data[a:b] for a, b in spans)
        key = index.keys[position].decode("ascii")
        if shard.images and images:
            first_byte, end = images.offsets[ordinal_of(images, key, shard.images)][:2].tolist()
            image = shard.images.read(shard.images.url, first_byte, end)
        with reading(shard.url, shard.advice):
            sample = Sample.parse(key, {"image": image, "json": meta, "npz": arrays})
        yield sample


def plain(text: str, length: int) -> str:
    """One line of at most `length` characters, without control characters, for a picture or a terminal."""
    spaced = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[: 8 * length])
    line = " ".join(spaced.split())
    return line if len(line) <= length and len(text) <= 8 * length else line[: length - 1].rstrip() + "…"
