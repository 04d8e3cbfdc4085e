"""The known-truth world: drawn scenes of any number, with web-like captions, and the truth kept aside.

A scene is a pure function of (seed, index): `draw_scene` paints it, `truth` gives its boxes and kinds without
painting. The pipeline sees the image and the captions; the truth is for evaluation alone.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from PIL import Image

from world import paint
from world.captions import captions_for
from world.colors import NAMED, TYPICAL
from world.nature import NATURE
from world.pen import Pen, Stroke
from world.things import THINGS

_DRAWERS = {**NATURE, **THINGS}

#: Every kind, in a fixed order. A name may hold two words.
KINDS: tuple[str, ...] = tuple(_DRAWERS)

#: Kinds that the shipped teacher never saw: no scene of its training holds or names them.
NOVEL_KINDS: tuple[str, ...] = (
    "mushroom", "butterfly", "carrot", "ice cream", "rocket", "kite", "anchor", "crown", "clock", "guitar",
    "drum", "snowman",
)  # fmt: skip

#: The other kinds.
BASE_KINDS: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in NOVEL_KINDS)

#: Kinds that are as right upside down.
_ANY_ROTATION = {
    "star",
    "leaf",
    "key",
    "arrow",
    "hammer",
    "carrot",
    "fish",
    "sun",
    "flower",
    "spider",
    "ladybug",
}
_N_OBJECTS = [1] * 5 + [2] * 5 + [3] * 4 + [4] * 3 + [5] * 2 + [6]
SIZE = 160


@dataclass(frozen=True)
class Scene:
    """One scene. Objects are ordered from back to front.

    image: uint8 [H, W, 3]. captions: 2-5. boxes_xyxy_norm: float32 [n, 4] in [0, 1], clipped to the image,
    tight around what is drawn, hidden parts included. kinds: n names out of `KINDS`.
    """

    image: np.ndarray
    captions: list[str]
    boxes_xyxy_norm: np.ndarray
    kinds: list[str]


@dataclass(frozen=True)
class _Object:
    kind: str
    color: str
    size: float
    strokes: list[Stroke]
    look: paint.Look
    box: np.ndarray


def draw_scene(seed: int, index: int, size: int = SIZE, kinds: Sequence[str] = KINDS) -> Scene:
    """Scene `index` of world `seed`, `size` x `size` px; objects and captions come from `kinds` alone."""
    rng = _rng(seed, index)
    objects = _arrange(rng, kinds)
    captions = captions_for([(o.kind, o.color, o.size) for o in objects], kinds, rng)
    canvas = paint.background(size, size, rng)
    for o in objects:
        strokes = [Stroke(s.points * size, s.fill, s.width * size) for s in o.strokes]
        paint.paint(canvas, strokes, o.look, rng)
    image = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return Scene(image, captions, _boxes(objects), [o.kind for o in objects])


def truth(seed: int, index: int, kinds: Sequence[str] = KINDS) -> tuple[np.ndarray, list[str]]:
    """(boxes_xyxy_norm, kinds) of `draw_scene(seed, index, kinds=kinds)` at every size, without painting."""
    objects = _arrange(_rng(seed, index), kinds)
    return _boxes(objects), [o.kind for o in objects]


def captions(seed: int, index: int, kinds: Sequence[str] = KINDS) -> list[str]:
    """The captions of `draw_scene(seed, index, kinds=kinds)`, without painting."""
    rng = _rng(seed, index)
    return captions_for([(o.kind, o.color, o.size) for o in _arrange(rng, kinds)], kinds, rng)


def encode_jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """uint8 [H, W, 3] -> JPEG bytes; the same bytes for the same image and Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> PNG bytes; lossless."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _rng(seed: int, index: int) -> random.Random:
    return random.Random(f"regionpairs shapes 1: {seed}/{index}")  # a string seed goes through sha512


def _boxes(objects: list[_Object]) -> np.ndarray:
    return np.stack([o.box for o in objects]).astype(np.float32)


def _arrange(rng: random.Random, kinds: Sequence[str]) -> list[_Object]:
    """1-6 objects that cover at most 35 % of one another."""
    wanted = rng.choice(_N_OBJECTS)
    objects: list[_Object] = []
    light = rng.uniform(0, 360)
    for _ in range(wanted):
        repeat = objects and rng.random() < 0.12
        kind = rng.choice(objects).kind if repeat else rng.choice(kinds)
        for _attempt in range(8):
            placed = _place(kind, wanted, light, rng)
            if all(_covered(placed.box, other.box) < 0.35 for other in objects):
                objects.append(placed)
                break
    return objects


def _place(kind: str, crowd: int, light: float, rng: random.Random) -> _Object:
    pen = Pen(rng)
    _DRAWERS[kind](pen)
    size = rng.uniform(0.2, 0.62 if crowd <= 2 else 0.44)
    stretch, flip = rng.uniform(0.85, 1.18), rng.choice([-1, 1])
    limit = 180 if kind in _ANY_ROTATION else 22
    turn = rng.uniform(-limit, limit) * pi / 180
    scale = size / 2
    matrix = np.array([[cos(turn), -sin(turn)], [sin(turn), cos(turn)]]) * [
        scale * stretch * flip,
        scale / stretch,
    ]
    moved = [Stroke(s.points @ matrix.T, s.fill, s.width * scale) for s in pen.strokes]
    low = np.min([s.points.min(0) - s.width / 2 for s in moved], 0)
    high = np.max([s.points.max(0) + s.width / 2 for s in moved], 0)
    # Up to 12 % of an object may lie outside of the image.
    span = high - low
    corner = np.array([rng.uniform(-0.12 * s, 1 - 0.88 * s) for s in span])
    moved = [Stroke(s.points + (corner - low), s.fill, s.width) for s in moved]
    box = np.concatenate([corner, corner + span])
    if box.min() < 0 or box.max() > 1:
        box = _visible(moved)
    return _Object(kind, *_dress(kind, light, rng, size, moved), box)


def _visible(strokes: list[Stroke]) -> np.ndarray:
    """The box of what lies inside of the image, from outlines sampled at 60 points an edge."""
    low, high = [], []
    steps = np.linspace(0, 1, 60)[:, None, None]
    for stroke in strokes:
        ends = np.roll(stroke.points, -1, 0) if not stroke.width else stroke.points[1:]
        starts = stroke.points[: len(ends)]
        points = (starts + (ends - starts) * steps).reshape(-1, 2)
        reach = stroke.width / 2
        inside = points[((points > -reach) & (points < 1 + reach)).all(1)]
        if len(inside):
            low.append(inside.min(0) - reach)
            high.append(inside.max(0) + reach)
    return np.clip(np.concatenate([np.min(low, 0), np.max(high, 0)]), 0, 1)


def _dress(
    kind: str, light: float, rng: random.Random, size: float, strokes: list[Stroke]
) -> tuple[str, float, list[Stroke], paint.Look]:
    names = list(NAMED)
    color = TYPICAL[kind] if kind in TYPICAL and rng.random() < 0.5 else rng.choice(names)
    second = rng.choice([name for name in names if name != color])
    jitter = [rng.gauss(0, 10) for _ in range(3)]
    r, g, b = (round(min(255, max(0, c + j))) for c, j in zip(NAMED[color], jitter, strict=True))
    look = paint.Look(
        main=(r, g, b),
        second=NAMED[second],
        outline=rng.choice([0.0, 0.0, 1.0, 1.6]),
        texture=rng.choice(["flat", "flat", "stripes", "dots", "noise"]),
        light_degrees=light,
        shadow=rng.random() < 0.7,
    )
    return color, size, strokes, look


def _covered(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over the smaller of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(float(np.prod(a[2:] - a[:2])), float(np.prod(b[2:] - b[:2])))
    return float(np.prod(np.maximum(sides, 0))) / max(smaller, 1e-9)
