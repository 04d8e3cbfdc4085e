"""Small pictures for a page: thumbnails, crops, and a hash that pictures which look alike share."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pipeline.images import decode

#: A picture on the page takes at most so many bytes, as a JPEG.
MAX_BYTES = 20_000
QUALITIES = (82, 70, 55, 40, 25)


def shrunk(image: bytes, side: int) -> Image.Image:
    """An image, upright, its longer side at most `side` pixels. Raises BadSample."""
    picture = Image.fromarray(decode(image, min_short_side=side)[0])
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return picture


def thumbnail(image: bytes, side: int = 320) -> str:
    """`shrunk` as a data URI of at most `MAX_BYTES`. Raises BadSample."""
    return data_uri(shrunk(image, side))


def crop(picture: Image.Image, box_xyxy_norm: np.ndarray, side: int = 96, margin: float = 0.1) -> str:
    """A box of a picture with a margin (a share of its sides) around it, as a data URI."""
    x0, y0, x1, y1 = (float(v) for v in box_xyxy_norm)
    dx, dy = (x1 - x0) * margin, (y1 - y0) * margin
    width, height = picture.size
    left, top = max(0, int((x0 - dx) * width)), max(0, int((y0 - dy) * height))
    right, bottom = min(width, round((x1 + dx) * width)), min(height, round((y1 + dy) * height))
    left, top = min(left, width - 1), min(top, height - 1)
    part = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    part.thumbnail((side, side), Image.Resampling.BICUBIC)
    return data_uri(part)


def data_uri(picture: Image.Image, max_bytes: int = MAX_BYTES) -> str:
    """A JPEG in a data URI, as good as `max_bytes` allow: worse, then smaller, until it fits."""
    while True:
        for quality in QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= max_bytes:
                return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))


def difference_hash(picture: Image.Image) -> int:
    """64 bits: whether each of 8 x 8 places is brighter than the one to its left. Equal for copies and resized copies."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")
