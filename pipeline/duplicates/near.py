"""Which 64-bit hashes lie within a distance of each other, and who stays. Pure; exact for every distance allowed.

Two hashes that differ in at most d bits agree in at least two of d + 2 bands of bits, for d bits spoil at most d bands.
So every pair that is near meets where hashes are grouped by two bands; there is a grouping for every two bands. Each of
them is a search of its own, cut into shares by the bands' value, and finds the pairs that no grouping before it found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from pipeline.duplicates.hashes import distances

#: Comparisons made at once.
AT_ONCE = 1 << 22
#: Who is near whom: the later and the earlier sample, by position in the plan, and the bits in which they differ.
EDGES = np.dtype([("later", "i8"), ("earlier", "i8"), ("distance", "u1")])


def groupings(distance: int) -> list[tuple[int, int]]:
    """Every two of the bands that hashes are cut into."""
    return list(itertools.combinations(range(distance + 2), 2))


def keys(hashes: np.ndarray, distance: int, two: tuple[int, int]) -> np.ndarray:
    """The bits of two bands of uint64 [N] hashes, all others 0. Equal for hashes of one group."""
    edges = [64 * i // (distance + 2) for i in range(distance + 3)]
    mask = sum(((1 << (edges[i + 1] - edges[i])) - 1) << edges[i] for i in two)
    return hashes & np.uint64(mask)


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64 whose low bits depend on all bits of uint64 values: equal values stay equal."""
    return (values * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)


def pairs_within(
    hashes: np.ndarray, positions: np.ndarray, distance: int, two: tuple[int, int]
) -> np.ndarray:
    """`EDGES` among hashes that agree in two bands, and not in two that come before. hashes: uint64 [N]; positions: int64
    [N], whose hash each is.

    A position may have several hashes (a mirror image's besides): it is near another if any two of them are.
    """
    key = keys(hashes, distance, two)
    order = np.argsort(key, kind="stable")
    hashes, positions, key = hashes[order], positions[order], key[order]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.zeros(0, int)
    ends = np.r_[starts[1:], len(key)]
    many = ends - starts > 1
    found = [
        edges
        for start, end in zip(starts[many].tolist(), ends[many].tolist(), strict=True)
        for edges in _in_group(hashes[start:end], positions[start:end], distance, two)
    ]
    return np.concatenate(found) if found else np.zeros(0, EDGES)


def _in_group(
    hashes: np.ndarray, positions: np.ndarray, distance: int, two: tuple[int, int]
) -> Iterator[np.ndarray]:
    rows = max(1, AT_ONCE // len(hashes))
    for start in range(0, len(hashes), rows):
        apart = distances(hashes[start : start + rows, None], hashes[None, start:])
        a, b = np.nonzero(apart <= distance)
        new = positions[start + a] != positions[start + b]  # not a picture that is its own mirror image
        new &= ~_met_before(hashes[start + a] ^ hashes[start + b], distance, two)
        a, b = a[new], b[new]
        edges = np.empty(len(a), EDGES)
        edges["later"] = np.maximum(positions[start + a], positions[start + b])
        edges["earlier"] = np.minimum(positions[start + a], positions[start + b])
        edges["distance"] = apart[a, b]
        yield unique(edges)


def _met_before(differing: np.ndarray, distance: int, two: tuple[int, int]) -> np.ndarray:
    """Whether hashes agree in two bands of an earlier grouping, where their pair was found. differing: uint64 [N], their
    differing bits."""
    found = np.zeros(len(differing), bool)
    for other in itertools.takewhile(lambda one: one != two, groupings(distance)):
        found |= keys(differing, distance, other) == 0
    return found


def unique(edges: np.ndarray) -> np.ndarray:
    """Each pair once, with its least distance, by rising (later, earlier)."""
    edges = edges[np.lexsort((edges["distance"], edges["earlier"], edges["later"]))]
    first = np.ones(len(edges), bool)
    first[1:] = (edges["later"][1:] != edges["later"][:-1]) | (edges["earlier"][1:] != edges["earlier"][:-1])
    return edges[first]


def first_wins(edges: np.ndarray) -> np.ndarray:
    """`EDGES` of every sample that goes: with the first sample near it that stays.

    In plan order a sample goes if an earlier one that stays is near it: so no two that stay are near each other, and none
    goes for the sake of one that went. edges: every pair that is near.
    """
    gone: dict[int, int] = {}
    for number, (later, earlier) in enumerate(zip(*_columns(unique(edges)), strict=True)):
        if earlier not in gone and later not in gone:
            gone[later] = number
    return unique(edges)[sorted(gone.values())]


def _columns(edges: np.ndarray) -> tuple[list[int], list[int]]:
    return edges["later"].tolist(), edges["earlier"].tolist()
