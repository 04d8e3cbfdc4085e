"""Images of every awkward sort, made in code."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photo(width: int = 48, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def rotated_by_exif(orientation: int = 6) -> bytes:
    """A JPEG that lies on its side and says so: 48 x 32 stored, 32 x 48 upright, red at its upright top."""
    image = Image.new("RGB", (48, 32), "blue")
    image.paste("red", (0, 0, 16, 32))  # the stored left edge becomes the top under orientation 6
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, "JPEG", exif=exif, quality=95)


def animated_gif() -> bytes:
    frames = [Image.new("P", (20, 10), color) for color in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def deep_png() -> bytes:
    """A 16-bit grey PNG: a ramp over the whole range."""
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    return encode(Image.fromarray(ramp), "PNG")
