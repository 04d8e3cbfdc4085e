"""The labels of a shard without its images: byte ranges, by the shard's index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

import storage
from pipeline.dataset.sample import SIDE_MEMBERS

#: Bytes between the labels of two samples that are read along rather than left out by a read of its own.
GAP = 1 << 15
#: Reads of a remote shard that are under way at once.
THREADS = 16

#: Samples (rows of an index) that one read gives: (first, one after the last, first byte, one after the last).
Run = tuple[int, int, int, int]


def read_labels(url: str, index: pa.Table) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample of a shard, in order; the image is empty. index: `records.SHARD_INDEX`.

    Images are read only where they are small and lie between labels. The bytes are not checked: a .npz has checksums, a
    .json has its key. Raises `storage.ShortRead` where the shard ends too early.
    """
    rows = index.to_pylist()
    places = [
        {m: (row[f"{m}_offset"], row[f"{m}_offset"] + row[f"{m}_bytes"]) for m in SIDE_MEMBERS}
        for row in rows
    ]
    found = runs([(min(p)[0], max(p)[1]) for p in (list(one.values()) for one in places)])

    def read(run: Run) -> bytes:
        return storage.read_bytes(url, run[2], run[3])

    several = not storage.is_local(url) and len(found) > 1
    pieces = storage.map_threads(read, found, THREADS) if several else map(read, found)
    for (first, last, start, _), data in zip(found, pieces, strict=True):
        for row, place in zip(rows[first:last], places[first:last], strict=True):
            members = {m: data[begin - start : end - start] for m, (begin, end) in place.items()}
            yield row["key"], {**members, row["extension"]: b""}


def runs(places: Sequence[tuple[int, int]], gap: int = GAP) -> list[Run]:
    """Places (start, end) of samples that follow each other -> the reads that give them all."""
    found: list[Run] = []
    for number, (start, end) in enumerate(places):
        if found and 0 <= start - found[-1][3] <= gap:
            first, _, begin, _ = found[-1]
            found[-1] = (first, number + 1, begin, end)
        else:
            found.append((number, number + 1, start, end))
    return found
