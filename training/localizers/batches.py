"""Which examples a training step sees: a pure function of (seed, step, worker)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from training.localizers.augment import augment, mosaic
from training.localizers.examples import BoxSource, Example
from training.localizers.settings import AugmentSettings


def generator(*words: int) -> np.random.Generator:
    """A generator seeded by all the words."""
    return np.random.default_rng(np.random.SeedSequence(list(words)))


def deal(position: int, weights: list[Fraction]) -> tuple[int, int]:
    """(which of the weights a position of the endless stream belongs to, how many earlier positions did).

    Dealt evenly: of any n positions in a row, n times its share, up to one, belong to each of two weights. The last
    weight is split off first, then the one before it from what is left, so the number of visits is exact at any
    position and a pass over a source sees each of its examples once.
    """
    for which in range(len(weights) - 1, 0, -1):
        rest = sum(weights[:which]) / sum(weights[: which + 1])
        before, after = int(position * rest), int((position + 1) * rest)
        if before == after:
            return which, position - before
        position = before
    return 0, position


class Mixture:
    """Training batches from several sources, each drawn in proportion to its weight.

    A source is visited in a fresh order every pass. Step s of worker w gives the same batch whenever it is asked for,
    so a resumed run sees what an undisturbed one would have seen.

    views: 0 augments anew at every visit; n > 0 gives each image n augmented views that take turns and are kept in
    memory, so that a frozen backbone needs to see each only once.
    """

    def __init__(self, sources: list[BoxSource], weights: list[float], seed: int, views: int = 0):
        if not sources or any(len(source) == 0 for source in sources):
            raise ValueError("training needs at least one source, and no source may be empty")
        self._sources = sources
        self._weights = [Fraction(w) for w in weights]
        self._seed = seed
        self._views = views
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self._kept: dict[tuple[int, ...], Example] = {}

    def address(self, position: int) -> tuple[int, int, int]:
        """(source, index in it, pass over it) of a position of the endless stream."""
        which, visits = deal(position, self._weights)
        count = len(self._sources[which])
        passes, place = divmod(visits, count)
        key = (which, passes)
        if key not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != which}
            self._orders[key] = generator(self._seed, 2, which, passes).permutation(count)
        return which, int(self._orders[key][place]), passes

    def batch(
        self, step: int, size: int, worker: int, workers: int, settings: AugmentSettings
    ) -> list[Example]:
        """The `size` augmented examples of a step and worker, each `canvas` x `canvas`."""
        start = (step * workers + worker) * size
        out = []
        for position in range(start, start + size):
            which, index, passes = self.address(position)
            if not self._views:
                out.append(self._augmented(which, index, generator(self._seed, 3, position), settings))
                continue
            view = (which, index, passes % self._views)
            if view not in self._kept:
                example = self._augmented(which, index, generator(self._seed, 4, *view), settings)
                self._kept[view] = replace(example, view=view)
            out.append(self._kept[view])
        return out

    def _augmented(
        self, which: int, index: int, rng: np.random.Generator, settings: AugmentSettings
    ) -> Example:
        source = self._sources[which]
        if rng.random() >= settings.mosaic:
            return augment(source[index], settings, rng)
        others = rng.integers(0, len(source), 3).tolist()
        four = [augment(source[i], settings, rng) for i in [index, *others]]
        return mosaic(four, settings.canvas, rng)


def to_pixels(
    examples: list[Example], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> torch.Tensor:
    """Equal-sized examples -> float32 [B, 3, H, W], normalised as the network wants it."""
    pixels = torch.from_numpy(np.stack([e.image for e in examples])).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
