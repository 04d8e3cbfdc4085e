"""The order of samples: a pure function of (seed, position), the same for any number of ranks and loader
processes.

Samples form one endless stream of epochs. Position p belongs to epoch p // N. In an epoch the shards are permuted and
cut into windows of a few shards; the samples of a window are permuted together, and the windows follow each other.
So every epoch has a fresh order of shards and of samples, and only one window (and the next, at its edge) is ever
open: the buffer that bounds memory, disk and open files. Because no state leads from one position to the next, a
resumed run, another rank or another loader process computes its part without replaying anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

_SHARDS, _SAMPLES, _REPLACEMENTS, _VIEWS = 0, 1, 2, 3


class Order:
    """The endless stream over `counts[i]` samples of shard i."""

    def __init__(self, counts: Sequence[int], seed: int, window_shards: int):
        self.counts = np.asarray(counts, np.int64)
        self.n_samples = int(self.counts.sum())
        if self.n_samples == 0:
            raise ValueError("the dataset (or its subset) holds no samples")
        self._seed = seed
        self._window_shards = window_shards
        self._remember()

    def _remember(self) -> None:
        self._shards = lru_cache(maxsize=2)(self._permute_shards)
        self._window = lru_cache(maxsize=3)(self._permute_window)

    def __getstate__(self) -> dict[str, Any]:
        """Without the caches: loader processes that are spawned and not forked receive a pickle."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_shards", "_window")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._remember()

    def locate(self, position: int) -> tuple[int, int]:
        """Position in the stream -> (shard, ordinal within the shard's samples)."""
        epoch, within = divmod(position, self.n_samples)
        _, ends = self._shards(epoch)
        window = int(np.searchsorted(ends, within, side="right"))
        start = int(ends[window - 1]) if window else 0
        shards, ordinals = self._window(epoch, window)
        return int(shards[within - start]), int(ordinals[within - start])

    def replacements(self, position: int, tries: int = 16) -> Iterator[tuple[int, int]]:
        """Stand-ins for a damaged sample, drawn by position: `tries` of its own window, whose shards are open
        anyway, then as many of the whole epoch, for a window that is damaged as a whole."""
        epoch, within = divmod(position, self.n_samples)
        _, ends = self._shards(epoch)
        window = int(np.searchsorted(ends, within, side="right"))
        shards, ordinals = self._window(epoch, window)
        rng = np.random.default_rng([self._seed, _REPLACEMENTS, position])
        for i in rng.integers(len(shards), size=tries):
            yield int(shards[i]), int(ordinals[i])
        for i in rng.integers(self.n_samples, size=4 * tries):
            yield self.locate(epoch * self.n_samples + int(i))

    def window_shards(self, position: int) -> list[int]:
        """The shards that are open at this position."""
        epoch, within = divmod(position, self.n_samples)
        shards, ends = self._shards(epoch)
        window = int(np.searchsorted(ends, within, side="right"))
        return [int(s) for s in shards[window * self._window_shards : (window + 1) * self._window_shards]]

    def next_window(self, position: int) -> int:
        """The first position after this position's window."""
        epoch, within = divmod(position, self.n_samples)
        _, ends = self._shards(epoch)
        return epoch * self.n_samples + int(ends[int(np.searchsorted(ends, within, side="right"))])

    def _permute_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's shards in order, and the position at which each window ends."""
        shards = np.random.default_rng([self._seed, _SHARDS, epoch]).permutation(len(self.counts))
        totals = np.add.reduceat(self.counts[shards], np.arange(0, len(shards), self._window_shards))
        return shards, np.cumsum(totals)

    def _permute_window(self, epoch: int, window: int) -> tuple[np.ndarray, np.ndarray]:
        shards, _ = self._shards(epoch)
        mine = shards[window * self._window_shards : (window + 1) * self._window_shards]
        owner = np.repeat(mine, self.counts[mine])
        ordinal = np.concatenate([np.arange(self.counts[s]) for s in mine])
        shuffled = np.random.default_rng([self._seed, _SAMPLES, epoch, window]).permutation(len(owner))
        return owner[shuffled], ordinal[shuffled]


def view_rng(seed: int, position: int) -> np.random.Generator:
    """The generator of one view (regions, flip, caption): a function of the position, not of who loads it."""
    return np.random.default_rng([seed, _VIEWS, position])


def batches(
    position: int, n_steps: int, batch_images: int, accumulate: int, rank: int, world: int
) -> Iterator[list[int]]:
    """This rank's micro-batches from `position` on: lists of positions, equally long on every rank.

    A step takes the next `batch_images` positions of the stream; micro-batch a of rank r is its slice a *
    world + r. Batches run across the ends of epochs, so no sample is ever dropped and no batch is short.
    """
    share, rest = divmod(batch_images, accumulate * world)
    if rest:
        raise ValueError(
            f"data.batch_images: {batch_images} images do not divide into {world} ranks x {accumulate} micro-batches"
        )
    for step in range(n_steps):
        for micro in range(accumulate):
            start = position + step * batch_images + (micro * world + rank) * share
            yield list(range(start, start + share))


class Once:
    """A sampler over a generator that is read once."""

    def __init__(self, plan: Iterator[list[int]]):
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return self._plan
