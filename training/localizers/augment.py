"""Augmentation of images with boxes. Pure: an example and a generator in, an example out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance

from training.localizers.examples import Example
from training.localizers.settings import AugmentSettings


def augment(example: Example, settings: AugmentSettings, rng: np.random.Generator) -> Example:
    """Rescales, flips, crops or pads to a `canvas` x `canvas` example, and jitters its colours."""
    image = Image.fromarray(example.image)
    short = float(np.exp(rng.uniform(np.log(settings.min_side), np.log(settings.max_side))))
    scale = short / min(image.size)
    bend = float(np.exp(rng.uniform(-1, 1) * np.log(settings.stretch) / 2))
    size = (max(1, round(image.width * scale * bend)), max(1, round(image.height * scale / bend)))
    factor = np.asarray([size[0] / image.width, size[1] / image.height] * 2, np.float32)
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    boxes, ignored = example.boxes * factor, example.ignored * factor
    if rng.random() < settings.flip:
        pixels = pixels[:, ::-1]
        boxes, ignored = flip_boxes(boxes, size[0]), flip_boxes(ignored, size[0])
    out = crop(Example(pixels, boxes, ignored), settings.canvas, settings.min_visible, rng)
    if not settings.colour:
        return out
    return replace(out, image=jitter_colour(out.image, settings.colour, rng))


def jitter_colour(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation, each by a factor in [1 - strength, 1 + strength]; grey one time in ten."""
    image = Image.fromarray(pixels)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(float(rng.uniform(1 - strength, 1 + strength)))
    return np.asarray(image.convert("L").convert("RGB") if rng.random() < 0.1 else image)


def flip_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """xyxy boxes of an image mirrored left to right."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def crop(example: Example, canvas: int, min_visible: float, rng: np.random.Generator) -> Example:
    """A random `canvas` x `canvas` window, or the example at a random place on a grey canvas where it is smaller."""
    height, width = example.image.shape[:2]
    left, top = (int(rng.integers(min(0, canvas - n), max(0, canvas - n) + 1)) for n in (width, height))
    # left, top: where the image's origin falls on the canvas; negative where it is cropped.
    pixels = np.full((canvas, canvas, 3), 127, np.uint8)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(canvas, left + width), min(canvas, top + height)
    pixels[y0:y1, x0:x1] = example.image[y0 - top : y1 - top, x0 - left : x1 - left]
    shift = np.asarray([left, top, left, top], np.float32)
    boxes, cut = clip_boxes(example.boxes + shift, (x0, y0, x1, y1), min_visible)
    ignored, _ = clip_boxes(example.ignored + shift, (x0, y0, x1, y1), 0.0)
    return Example(pixels, boxes, np.concatenate([ignored, cut]))


def clip_boxes(
    boxes: np.ndarray, window: tuple[int, int, int, int], min_visible: float
) -> tuple[np.ndarray, np.ndarray]:
    """(boxes of which at least `min_visible` is inside the window, the other visible ones), both clipped to it."""
    low, high = np.asarray(window[:2] * 2, np.float32), np.asarray(window[2:] * 2, np.float32)
    clipped = np.clip(boxes, low, high)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sides = clipped[:, 2:] - clipped[:, :2]
    inside = sides.prod(axis=1)
    visible = (sides > 1).all(axis=1)
    enough = inside >= min_visible * area
    return clipped[visible & enough], clipped[visible & ~enough]


def mosaic(four: list[Example], canvas: int, rng: np.random.Generator) -> Example:
    """Four canvas-sized examples on one canvas, each at half size (YOLOv4's mosaic, Bochkovskiy et al. 2020)."""
    pixels = np.empty((canvas, canvas, 3), np.uint8)
    half = canvas // 2
    boxes, ignored = [], []
    for position, example in enumerate(four):
        x, y = half * (position % 2), half * (position // 2)
        image = Image.fromarray(example.image).resize((half, half), Image.Resampling.BILINEAR)
        pixels[y : y + half, x : x + half] = np.asarray(image)
        shift = np.asarray([x, y, x, y], np.float32)
        scale = half / example.image.shape[0]
        boxes.append(example.boxes * scale + shift)
        ignored.append(example.ignored * scale + shift)
    return Example(pixels, np.concatenate(boxes), np.concatenate(ignored))
