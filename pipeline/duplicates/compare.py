"""Hashes of all units against each other, a share a task. Positions are numbers of rows in the plan's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import storage
from pipeline.dataset.layout import Layout
from pipeline.duplicates.held_out import digest_of_caption
from pipeline.duplicates.near import EDGES, pairs_within, share_of

#: A caption that goes: number `caption` of the sample at `later`, for the sake of the one at `earlier`.
CAPTIONS = np.dtype([("later", "i8"), ("caption", "i4"), ("earlier", "i8")])
#: What is told of duplicates and of what they repeat.
FACTS = ["row", "source_key", "sha256", "held_out", "captions"]
_FIRST_ROWS = np.dtype([("near", "u8"), ("mirror", "u8"), ("position", "i8")])
_FIRST = pa.schema([("near", pa.uint64()), ("mirror", pa.uint64()), ("position", pa.int64())])


@dataclass(frozen=True)
class Units:
    """Where the rows of each unit begin. starts: int64 [U + 1]. gone: positions that take no part any more, rising."""

    layout: Layout
    starts: np.ndarray
    gone: np.ndarray

    def tables(self, columns: list[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Positions and columns of each unit's hashes, without what is gone or held out."""
        for unit in range(len(self.starts) - 1):
            table = storage.read_table(self.layout.unit_hashes(unit), ["row", "held_out", *columns])
            table = table.filter(pc.equal(table["held_out"], ""))
            positions = self.starts[unit] + table["row"].to_numpy()
            stays = ~np.isin(positions, self.gone)
            yield positions[stays], table.filter(pa.array(stays)).select(columns)


def held_out_of(layout: Layout, starts: np.ndarray, unit: int) -> np.ndarray:
    """`EDGES` of a unit's images that are held out, `earlier` being -1."""
    table = storage.read_table(layout.unit_hashes(unit), ["row", "held_out", "distance"])
    table = table.filter(pc.not_equal(table["held_out"], ""))
    edges = np.empty(table.num_rows, EDGES)
    edges["later"], edges["earlier"] = starts[unit] + table["row"].to_numpy(), -1
    edges["distance"] = table["distance"].to_numpy()
    return edges


def equal_images(units: Units, column: str, n_shares: int, share: int) -> np.ndarray:
    """`EDGES` from every image to the first one with the same digest, among the digests of a share."""
    digests, positions = _digests_of_share(units, column, n_shares, share)
    return _to_first(digests, positions)


def equal_hashes(units: Units, mirrored: bool, n_shares: int, share: int) -> np.ndarray:
    """`EDGES` from every image to the first one with the same perceptual hashes, among those of a share; writes the first
    ones for `near_images`."""
    found = []
    for positions, table in units.tables(["near", "mirror"]):
        near = table["near"].to_numpy()
        own = share_of(near, n_shares) == share
        mirror = table["mirror"].to_numpy() if mirrored else np.zeros(len(near), np.uint64)
        rows = np.empty(int(own.sum()), _FIRST_ROWS)
        rows["near"], rows["mirror"], rows["position"] = near[own], mirror[own], positions[own]
        found.append(rows)
    rows = np.concatenate(found)
    rows = rows[np.lexsort((rows["position"], rows["mirror"], rows["near"]))]
    first = _changes(rows["near"]) | _changes(rows["mirror"])
    table = pa.table({name: rows[name][first] for name in _FIRST.names}, schema=_FIRST)
    with storage.atomic_write(units.layout.first_hashes(share)) as target:
        pq.write_table(table, target)
    return _edges_to_first(first, rows["position"])


def near_images(
    layout: Layout, distance: int, mirrored: bool, n_shares: int, work: tuple[tuple[int, int], int]
) -> np.ndarray:
    """`EDGES` among the first images of each hash, by one grouping (`near.groupings`) and a share of it."""
    two, share = work
    tables = [storage.read_table(layout.first_hashes(number)) for number in range(n_shares)]
    table = pa.concat_tables(tables)
    hashes, positions = table["near"].to_numpy(), table["position"].to_numpy()
    if mirrored:
        hashes, positions = np.r_[hashes, table["mirror"].to_numpy()], np.r_[positions, positions]
    return pairs_within(hashes, positions, distance, two, n_shares, share)


def equal_pairs(units: Units, column: str, n_shares: int, share: int) -> np.ndarray:
    """`CAPTIONS` that an earlier sample with the same image has, among the digests of a share."""
    digests: list[bytes] = []
    places: list[tuple[int, int]] = []
    for positions, table in units.tables([column, "captions"]):
        rows = zip(positions.tolist(), table[column].to_pylist(), table["captions"].to_pylist(), strict=True)
        for position, image, captions in rows:
            if int.from_bytes(image[:8], "big") % n_shares == share:
                digests += [digest_of_caption(caption, image) for caption in captions]
                places += [(position, number) for number in range(len(captions))]
    first: dict[bytes, int] = {}
    found = [
        (position, number, first[digest])
        for digest, (position, number) in zip(digests, places, strict=True)
        if first.setdefault(digest, position) != position
    ]
    return np.array(found, CAPTIONS)


def _digests_of_share(units: Units, column: str, n_shares: int, share: int) -> tuple[np.ndarray, np.ndarray]:
    digests, places = [np.zeros(0, "V32")], [np.zeros(0, np.int64)]
    for positions, table in units.tables([column]):
        own = np.array(table[column].to_pylist(), "V32")
        mine = share_of(own.view(np.uint64).reshape(-1, 4)[:, 0], n_shares) == share
        digests.append(own[mine])
        places.append(positions[mine])
    return np.concatenate(digests), np.concatenate(places)


def _to_first(digests: np.ndarray, positions: np.ndarray) -> np.ndarray:
    words = digests.view(np.uint64).reshape(-1, 4)
    order = np.lexsort((positions, *words.T))
    words, positions = words[order], positions[order]
    first = np.ones(len(words), bool)
    first[1:] = (words[1:] != words[:-1]).any(axis=1)
    return _edges_to_first(first, positions)


def _edges_to_first(first: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """first: where a group of equal ones begins, in their order."""
    edges = np.zeros(int((~first).sum()), EDGES)
    edges["later"] = positions[~first]
    edges["earlier"] = positions[np.flatnonzero(first)][np.cumsum(first)[~first] - 1]
    return edges


def _changes(values: np.ndarray) -> np.ndarray:
    found = np.ones(len(values), bool)
    found[1:] = values[1:] != values[:-1]
    return found


def facts_of(layout: Layout, work: tuple[int, np.ndarray]) -> pa.Table:
    """Rows of a unit's hashes, by number of the index's row (rising)."""
    unit, rows = work
    table = storage.read_table(layout.unit_hashes(unit), FACTS)
    at = np.searchsorted(table["row"].to_numpy(), rows)
    return table.take(pa.array(at))
