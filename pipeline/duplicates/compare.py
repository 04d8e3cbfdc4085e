"""Hashes of all units against each other, by hash partition (`partition.py`). Positions are numbers of rows in the plan's
order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import storage
from pipeline import partition, pieces
from pipeline.dataset.layout import Layout
from pipeline.duplicates import near
from pipeline.duplicates.held_out import digest_of_caption
from pipeline.duplicates.near import EDGES
from pipeline.partition import Search

#: A caption that goes: number `caption` of the sample at `later`, for the sake of the one at `earlier`.
CAPTIONS = np.dtype([("later", "i8"), ("caption", "i4"), ("earlier", "i8")])
#: What is told of duplicates and of what they repeat.
FACTS = ["row", "source_key", "sha256", "held_out", "captions"]
#: Digests of images, perceptual hashes, digests of pairs, hashes of the first images: what is compared, and where it is.
_DIGESTS = np.dtype([("digest", "<u8", (4,)), ("position", "<i8")])
_HASHES = np.dtype([("near", "<u8"), ("mirror", "<u8"), ("position", "<i8")])
_PAIRS = np.dtype([("digest", "<u8", (2,)), ("position", "<i8"), ("caption", "<i4")])
_NEAR = np.dtype([("hash", "<u8"), ("position", "<i8")])
#: What a search for equal perceptual hashes leaves in its pieces: the edges, then the first image of each hash.
_FIRSTS = np.dtype([*_HASHES.descr, ("earlier", "<i8")])


@dataclass(frozen=True)
class Group:
    """Neighbouring units. starts: int64, the position of each one's first row. gone: int64, rising: those of its positions
    that take no part any more."""

    units: range
    starts: np.ndarray
    gone: np.ndarray

    def tables(self, layout: Layout, columns: list[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Positions and columns of each unit's hashes, without what is gone or held out."""
        for unit, start in zip(self.units, self.starts.tolist(), strict=True):
            table = storage.read_table(layout.unit_hashes(unit), ["row", "held_out", *columns])
            table = table.filter(pc.equal(table["held_out"], ""))
            positions = start + table["row"].to_numpy()
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


def equal_images(layout: Layout, column: str) -> Search:
    """Finds `EDGES` from every image to the first one with the same digest. Its items are `Group`s."""
    return Search(f"images-{column}", _DIGESTS, partial(_digests_of, layout, column), _equal_digests)


def equal_hashes(layout: Layout, mirrored: bool) -> Search:
    """Finds `_FIRSTS`: every image that has the perceptual hashes of an earlier one, then the first of each hash, for
    `near_images`. Its items are `Group`s."""
    return Search("hashes", _HASHES, partial(_hashes_of, layout, mirrored), _equal_hashes)


def edges_of_equal(urls: list[str]) -> np.ndarray:
    """`EDGES` of what `equal_hashes` found."""
    found = partition.read(urls, 0, _FIRSTS)
    edges = np.zeros(len(found), EDGES)
    edges["later"], edges["earlier"] = found["position"], found["earlier"]
    return edges


def near_images(distance: int, mirrored: bool) -> list[Search]:
    """A search a grouping (`near.groupings`): `EDGES` among the first images of each hash. Their items are files of what
    `equal_hashes` found."""
    return [
        Search(
            f"near-{two[0]}-{two[1]}",
            _NEAR,
            partial(_first_hashes, distance, mirrored, two),
            partial(_near_pairs, distance, two),
        )
        for two in near.groupings(distance)
    ]


def equal_pairs(layout: Layout, column: str) -> Search:
    """Finds `CAPTIONS` that an earlier sample with the same image has. Its items are `Group`s."""
    return Search(f"pairs-{column}", _PAIRS, partial(_pairs_of, layout, column), _equal_pairs)


def _digests_of(layout: Layout, column: str, group: Group) -> tuple[np.ndarray, np.ndarray]:
    found = [np.zeros(0, _DIGESTS)]
    for positions, table in group.tables(layout, [column]):
        rows = np.empty(len(positions), _DIGESTS)
        rows["digest"] = np.frombuffer(b"".join(table[column].to_pylist()), "<u8").reshape(-1, 4)
        rows["position"] = positions
        found.append(rows)
    rows = np.concatenate(found)
    return rows, near.mixed(rows["digest"][:, 0])


def _equal_digests(rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    order, first = _groups(*rows["digest"].T)
    edges = _edges_to_first(first, rows["position"][order])
    return edges, [len(edges)]


def _hashes_of(layout: Layout, mirrored: bool, group: Group) -> tuple[np.ndarray, np.ndarray]:
    found = [np.zeros(0, _HASHES)]
    for positions, table in group.tables(layout, ["near", "mirror"]):
        rows = np.zeros(len(positions), _HASHES)
        rows["near"], rows["position"] = table["near"].to_numpy(), positions
        if mirrored:
            rows["mirror"] = table["mirror"].to_numpy()
        found.append(rows)
    rows = np.concatenate(found)
    return rows, near.mixed(rows["near"])


def _equal_hashes(rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    order, first = _groups(rows["near"], rows["mirror"])
    edges = _edges_to_first(first, rows["position"][order])
    found = np.zeros(len(rows), _FIRSTS)
    found["position"][: len(edges)], found["earlier"][: len(edges)] = edges["later"], edges["earlier"]
    for name in ("near", "mirror", "position"):
        found[name][len(edges) :] = rows[name][order][first]
    return found, [len(edges), len(rows)]


def _first_hashes(
    distance: int, mirrored: bool, two: tuple[int, int], url: str
) -> tuple[np.ndarray, np.ndarray]:
    firsts = pieces.read(url, 1, _FIRSTS)
    rows = np.empty((1 + mirrored) * len(firsts), _NEAR)
    for i, name in enumerate(("near", "mirror")[: 1 + mirrored]):
        rows["hash"][i * len(firsts) : (i + 1) * len(firsts)] = firsts[name]
    rows["position"] = np.tile(firsts["position"], 1 + mirrored)
    return rows, near.mixed(near.keys(rows["hash"], distance, two))


def _near_pairs(distance: int, two: tuple[int, int], rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    edges = near.unique(near.pairs_within(rows["hash"], rows["position"], distance, two))
    return edges, [len(edges)]


def _pairs_of(layout: Layout, column: str, group: Group) -> tuple[np.ndarray, np.ndarray]:
    found = [np.zeros(0, _PAIRS)]
    for positions, table in group.tables(layout, [column, "captions"]):
        captions = table["captions"].to_pylist()
        digests = [
            digest_of_caption(caption, image)
            for image, own in zip(table[column].to_pylist(), captions, strict=True)
            for caption in own
        ]
        n_each = [len(own) for own in captions]
        rows = np.empty(len(digests), _PAIRS)
        rows["digest"] = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
        rows["position"] = np.repeat(positions, n_each)
        rows["caption"] = np.concatenate([np.zeros(0, np.int32), *(np.arange(n) for n in n_each)])
        found.append(rows)
    rows = np.concatenate(found)
    return rows, rows["digest"][:, 0]


def _equal_pairs(rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    order, first = _groups(*rows["digest"].T)
    rows = rows[order]
    earlier = rows["position"][np.flatnonzero(first)][np.cumsum(first) - 1]
    again = rows["position"] != earlier  # one sample may have a caption twice
    found = np.empty(int(again.sum()), CAPTIONS)
    found["later"], found["caption"] = rows["position"][again], rows["caption"][again]
    found["earlier"] = earlier[again]
    return found, [len(found)]


def _groups(*words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order that brings equal rows together, in plan order within each group, and where groups begin in it."""
    order = np.lexsort(words)  # stable
    first = np.zeros(len(order), bool)
    first[:1] = True
    for word in words:
        values = word[order]
        first[1:] |= values[1:] != values[:-1]
    return order, first


def _edges_to_first(first: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """first: where a group of equal ones begins, in their order."""
    edges = np.zeros(int((~first).sum()), EDGES)
    edges["later"] = positions[~first]
    edges["earlier"] = positions[np.flatnonzero(first)][np.cumsum(first)[~first] - 1]
    return edges


def facts_of(layout: Layout, work: tuple[int, np.ndarray]) -> pa.Table:
    """Rows of a unit's hashes, by number of the index's row (rising)."""
    unit, rows = work
    table = storage.read_table(layout.unit_hashes(unit), FACTS)
    at = np.searchsorted(table["row"].to_numpy(), rows)
    return table.take(pa.array(at))
