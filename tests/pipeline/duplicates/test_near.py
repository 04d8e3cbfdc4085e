"""Near hashes: banded groups against every pair, and who stays against the plain rule."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.duplicates import near
from pipeline.duplicates.hashes import distances


def clustered(n: int, seed: int) -> np.ndarray:
    """Hashes of which many are near each other: copies with 0 to 8 bits flipped."""
    rng = np.random.default_rng(seed)
    bases = rng.integers(0, 1 << 63, max(1, n // 6), dtype=np.uint64)
    found = bases[rng.integers(0, len(bases), n)].copy()
    for i in range(n):
        for bit in rng.choice(64, rng.integers(0, 9), replace=False):
            found[i] ^= np.uint64(1) << np.uint64(bit)
    return found


def brute(entries: list[set[int]], distance: int) -> dict[int, tuple[int, int]]:
    """Sample that goes -> (the first that stays near it, bits), every pair looked at in plan order."""
    stays: list[int] = []
    gone: dict[int, tuple[int, int]] = {}
    for i, own in enumerate(entries):
        apart = [(j, min(bin(a ^ b).count("1") for a in own for b in entries[j])) for j in stays]
        close = [(j, bits) for j, bits in apart if bits <= distance]
        if close:
            gone[i] = close[0]
        else:
            stays.append(i)
    return gone


@pytest.mark.parametrize("distance", [0, 1, 4, 6, 16])
def test_groups_of_bands_find_every_pair_once_and_the_first_that_stays_wins(distance):
    hashes = np.unique(clustered(240, distance))
    np.random.default_rng(1).shuffle(hashes)
    positions = np.arange(len(hashes))
    edges = np.concatenate(
        [near.pairs_within(hashes, positions, distance, two) for two in near.groupings(distance)]
    )
    expected = {
        (j, i) for j in range(len(hashes)) for i in range(j)
        if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= distance
    }  # fmt: skip
    assert sorted((int(e["later"]), int(e["earlier"])) for e in edges) == sorted(expected)
    assert distance < 2 or expected
    won = {int(e["later"]): (int(e["earlier"]), int(e["distance"])) for e in near.first_wins(edges)}
    assert won == brute([{int(h)} for h in hashes], distance)


def test_distances_are_counts_of_bits():
    a = np.array([0, 1, (1 << 64) - 1, 0xF0], np.uint64)
    assert distances(a[:, None], a[None]).tolist() == [
        [bin(int(x) ^ int(y)).count("1") for y in a] for x in a
    ]


def test_one_that_went_takes_nobody_with_it():
    """A chain: the second is near the first and the third near the second alone, so the third stays."""
    edges = np.array([(1, 0, 1), (2, 1, 1)], near.EDGES)
    assert near.first_wins(edges).tolist() == [(1, 0, 1)]
