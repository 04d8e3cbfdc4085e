"""The pen of the known-truth world: kinds draw polygons and strokes in their own frame, once, without pixels.

A drawing is a list of `Stroke`s in a frame of about [-1, 1] x [-1, 1], x to the right, y down. Its box under
any transform follows from the points alone, which is what makes the truth of a scene cheap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """One primitive. points: float64 [n, 2]; fill: a role of the palette; width: of a line, 0: a polygon."""

    points: np.ndarray
    fill: str
    width: float = 0.0


class Pen:
    """Records strokes. `fill` is `main`, `second`, `dark`, `light` or a name in `shapes_colors.FIXED`."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.strokes: list[Stroke] = []

    def polygon(self, points: Sequence[Point], fill: str = "main") -> None:
        self.strokes.append(Stroke(np.array(points, np.float64), fill))

    def line(self, points: Sequence[Point], width: float, fill: str = "dark") -> None:
        self.strokes.append(Stroke(np.array(points, np.float64), fill, width))

    def ellipse(
        self, x: float, y: float, rx: float, ry: float | None = None, fill: str = "main", turn: float = 0.0
    ) -> None:
        """An ellipse around (x, y), turned by `turn` degrees."""
        self.polygon(arc(x, y, rx, rx if ry is None else ry, 0, 360, turn), fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: str = "main", bevel: float = 0.0) -> None:
        """A rectangle with corners cut off by `bevel`."""
        b = bevel
        if b == 0:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)
            return
        corners = [(x0 + b, y0), (x1 - b, y0), (x1, y0 + b), (x1, y1 - b)]
        self.polygon([*corners, (x1 - b, y1), (x0 + b, y1), (x0, y1 - b), (x0, y0 + b)], fill)


def arc(
    x: float, y: float, rx: float, ry: float, start: float, stop: float, turn: float = 0.0, n: int = 28
) -> list[Point]:
    """n points on an ellipse's arc, from `start` to `stop` degrees (0: right, 90: down); `turn` in degrees."""
    c, s = cos(turn * pi / 180), sin(turn * pi / 180)
    points = []
    for i in range(n):
        t = (start + (stop - start) * i / (n - 1)) * pi / 180
        u, v = rx * cos(t), ry * sin(t)
        points.append((x + c * u - s * v, y + s * u + c * v))
    return points


def spokes(
    n: int, outer: float, inner: float, x: float = 0.0, y: float = 0.0, turn: float = -90.0
) -> list[Point]:
    """A star with n tips."""
    points = []
    for i in range(2 * n):
        t = (turn + 180 * i / n) * pi / 180
        r = outer if i % 2 == 0 else inner
        points.append((x + r * cos(t), y + r * sin(t)))
    return points


def mirror(points: Sequence[Point]) -> list[Point]:
    """A closed outline from its right half, given from top to bottom."""
    return [*points, *((-x, y) for x, y in reversed(points))]
