"""Pixels of the known-truth world: backgrounds and objects; deterministic for one version of Pillow."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from world.colors import FIXED, NAMED, RGB, mix
from world.pen import Stroke

_SUPERSAMPLE = 3


@dataclass(frozen=True)
class Look:
    """How an object is painted. outline: px, 0 for none; texture: flat | stripes | dots | noise."""

    main: RGB
    second: RGB
    outline: float
    texture: str
    light_degrees: float
    shadow: bool


def background(width: int, height: int, rng: random.Random) -> np.ndarray:
    """float32 [H, W, 3] in [0, 255]: a gradient, soft blotches, a pattern and scribbles."""
    x, y = np.meshgrid(
        np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    )
    a, b = (_muted(rng) for _ in range(2))
    turn = rng.uniform(0, 2 * pi)
    ramp = ((x * cos(turn) + y * sin(turn)) * 0.35 + 0.5)[..., None]
    canvas = np.asarray(a, np.float32) * (1 - ramp) + np.asarray(b, np.float32) * ramp
    noise = np.random.RandomState(rng.getrandbits(31))  # its stream is frozen across NumPy versions
    for cells, strength in ((4, 26.0), (11, 14.0)):
        coarse = Image.fromarray(noise.standard_normal((cells, cells)).astype(np.float32))
        canvas += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None] * strength
    _pattern(canvas, x, y, rng)
    canvas += noise.standard_normal((height, width, 1)).astype(np.float32) * rng.uniform(1.0, 7.0)
    return _scribbles(np.clip(canvas, 0, 255), rng)


def _muted(rng: random.Random) -> RGB:
    return mix(
        rng.choice(list(NAMED.values())),
        rng.choice([(236, 232, 222), (120, 128, 140)]),
        rng.uniform(0.35, 0.8),
    )


def _pattern(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, rng: random.Random) -> None:
    kind = rng.choice(["none", "stripes", "checks", "hills", "rings", "waves"])
    f, phase, turn = rng.uniform(6, 22), rng.uniform(0, 6.3), rng.uniform(0, pi)
    strength = rng.uniform(6, 18)
    along = x * cos(turn) + y * sin(turn)
    across = y * cos(turn) - x * sin(turn)
    if kind == "stripes":
        canvas += np.sign(np.sin(f * along + phase))[..., None] * strength
    elif kind == "checks":
        canvas += (np.sign(np.sin(f * along)) * np.sign(np.sin(f * across)))[..., None] * strength
    elif kind == "hills":
        ridge = rng.uniform(0.1, 0.5) + 0.18 * np.sin(rng.uniform(1.5, 4) * x + phase)
        canvas[y > ridge] += np.asarray(_muted(rng), np.float32) * 0.25 - 50
    elif kind == "rings":
        canvas += np.sin(f * np.hypot(x - cos(phase), y - sin(phase)))[..., None] * strength
    elif kind == "waves":
        canvas += np.sin(f * along + 1.5 * np.sin(4 * across + phase))[..., None] * strength


def _scribbles(canvas: np.ndarray, rng: random.Random) -> np.ndarray:
    """Lines, specks and soft discs that are no object, so that contrast alone does not mean one."""
    image = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    width, height = image.size
    for _ in range(rng.randrange(0, 9)):
        color = (*_muted(rng), rng.randrange(60, 190))
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(2, 0.16 * width)
        shape = rng.randrange(4)
        if shape == 0:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
        elif shape == 1:
            draw.line(
                (x, y, x + rng.gauss(0, 3 * r), y + rng.gauss(0, 3 * r)),
                fill=color,
                width=rng.randrange(1, 4),
            )
        elif shape == 2:
            draw.polygon([(x + rng.gauss(0, r), y + rng.gauss(0, r)) for _ in range(3)], fill=color)
        else:
            for _ in range(6):
                u, v = x + rng.gauss(0, r), y + rng.gauss(0, r)
                draw.ellipse((u - 1.5, v - 1.5, u + 1.5, v + 1.5), fill=color)
    return np.asarray(image, dtype=np.float32)


def paint(canvas: np.ndarray, strokes: list[Stroke], look: Look, rng: random.Random) -> None:
    """Paint an object's strokes (points in px, widths in px) onto `canvas`, float32 [H, W, 3], in place."""
    height, width = canvas.shape[:2]
    low = np.floor(np.min([s.points.min(0) - s.width for s in strokes], 0)).astype(int) - 3
    high = np.ceil(np.max([s.points.max(0) + s.width for s in strokes], 0)).astype(int) + 3
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    tile = _rasterize(strokes, look, (x0, y0, x1 - x0, y1 - y0))
    rgb, alpha = tile[..., :3], tile[..., 3:] / 255
    rgb = rgb * _shading(rgb.shape[0], rgb.shape[1], look, rng)[..., None]
    if look.shadow:
        mask = Image.fromarray(tile[..., 3].astype(np.uint8)).filter(ImageFilter.BoxBlur(2))
        under = np.roll(np.asarray(mask, np.float32), (3, 2), (0, 1))
        under[:3], under[:, :2] = 0, 0
        canvas[y0:y1, x0:x1] *= 1 - 0.4 * (under / 255)[..., None]
    view = canvas[y0:y1, x0:x1]
    view *= 1 - alpha
    view += np.clip(rgb, 0, 255) * alpha


def _rasterize(strokes: list[Stroke], look: Look, frame: tuple[int, int, int, int]) -> np.ndarray:
    """float32 [h, w, 4] of the frame (x, y, w, h), supersampled."""
    x, y, w, h = frame
    n = _SUPERSAMPLE
    edge = mix(look.main, (0, 0, 0), 0.55)
    palette = dict(
        FIXED, main=look.main, second=look.second, dark=edge, light=mix(look.main, (255, 255, 255), 0.55)
    )
    # Transparent pixels carry the edge colour, so that averaging does not darken the rim towards black.
    image = Image.new("RGBA", (w * n, h * n), (*edge, 0))
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [tuple(p) for p in ((stroke.points - (x, y)) * n).tolist()]
        color = (*palette[stroke.fill], 255)
        if stroke.width:
            size = max(1, round(stroke.width * n))
            draw.line(points, fill=color, width=size, joint="curve")
            r = size / 2
            for u, v in (points[0], points[-1]):
                draw.ellipse((u - r, v - r, u + r, v + r), fill=color)
        else:
            draw.polygon(points, fill=color)
            if look.outline:
                draw.line(
                    [*points, points[0]],
                    fill=(*edge, 255),
                    width=max(1, round(look.outline * n)),
                    joint="curve",
                )
    return np.asarray(image.reduce(n), dtype=np.float32)


def _shading(h: int, w: int, look: Look, rng: random.Random) -> np.ndarray:
    """float32 [h, w], a factor near 1: light from one side, times the texture."""
    x = np.linspace(-1, 1, w, dtype=np.float32)[None]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    turn = look.light_degrees * pi / 180
    shade = 1.02 - 0.2 * (x * cos(turn) + y * sin(turn))
    f, phase = rng.uniform(10, 24), rng.uniform(0, 6.3)
    if look.texture == "stripes":
        shade = shade * (1 + 0.1 * np.sign(np.sin(f * (x * cos(phase) + y * sin(phase)))))
    elif look.texture == "dots":
        shade = shade * (1 + 0.14 * ((np.sin(f * x + phase) * np.sin(f * y)) > 0.45))
    elif look.texture == "noise":
        noise = np.random.RandomState(rng.getrandbits(31)).standard_normal((h, w)).astype(np.float32)
        shade = shade * (1 + 0.05 * noise)
    return shade.astype(np.float32)
