"""A fixed pyramid of overlapping boxes: no weights, the baseline that every localizer must beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.localizers import Proposals
from pipeline.localizers.settings import LocalizerSettings


class Grid:
    """Boxes on n x n lattices (n = 1, 2, 3, ...), each 1.5 cells wide, until `max_proposals` are there.

    Objectness is 0 for the coarsest lattice and falls by one a lattice: it orders boxes and means nothing more.
    """

    def __init__(self, max_proposals: int):
        boxes: list[list[float]] = []
        scores: list[float] = []
        n = 1
        while len(boxes) < max_proposals:
            for row in range(n):
                for column in range(n):
                    x, y, r = (column + 0.5) / n, (row + 0.5) / n, 0.75 / n
                    boxes.append([max(0.0, x - r), max(0.0, y - r), min(1.0, x + r), min(1.0, y + r)])
                    scores.append(1.0 - n)
            n += 1
        self._proposals = Proposals(
            np.asarray(boxes[:max_proposals], np.float32), np.asarray(scores[:max_proposals], np.float32)
        )

    def __call__(self, images: list[np.ndarray], keys: list[str] | None = None) -> list[Proposals]:
        return [self._proposals for _ in images]


def load(settings: LocalizerSettings, device: str) -> Grid:
    """The first `max_proposals` boxes of the pyramid; the device does not matter."""
    return Grid(settings.max_proposals)


def describe(settings: LocalizerSettings) -> dict[str, Any]:
    """How many boxes there are; there are no weights."""
    return {"max_proposals": settings.max_proposals}
