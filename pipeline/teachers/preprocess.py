"""Images and boxes as a tower wants them: resized, cropped, normalised. Pure; Pillow does the resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from pipeline.devices import to_device


@dataclass(frozen=True)
class Preprocess:
    """How pixels become a tower's input.

    Attributes:
        short_side: pixels of the shorter side
        long_side: most pixels of the longer side (it wins over short_side)
        multiple_of: both sides are rounded to a multiple of this many pixels
        mean: of red, green, blue in [0, 1]
        std: of red, green, blue in [0, 1]
    """

    short_side: int
    long_side: int
    multiple_of: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size is resized to.

        Both sides are rounded to the nearest multiple, at least one: no tower drops a row, images of similar shape
        share a size, and a batch of one size needs no padding. The price is a stretch of at most half a multiple.
        """
        scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
        m = self.multiple_of
        return max(1, round(height * scale / m)) * m, max(1, round(width * scale / m)) * m

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], on the same device."""
        mean = to_device(torch.tensor(self.mean) * 255.0, pixels.device)
        std = to_device(torch.tensor(self.std) * 255.0, pixels.device)
        return ((pixels.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [*size, 3], bicubic with antialiasing."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize_as_it_lies(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`resize` as Pillow keeps it, uint8 [*size, 4] with a fourth channel without a meaning, where it lies in one piece.

    Copying that out releases the interpreter lock; Pillow's own way to three channels holds it, and a thread that hands
    work to a GPU waits for all who do.
    """
    picture = Image.fromarray(image)
    if image.shape[:2] != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    try:
        lies = pa.array(picture)
    except (TypeError, ValueError):  # Pillow before 11.2; a picture in several blocks
        return np.asarray(picture)
    return lies.flatten().to_numpy().reshape(*size, 4)


def crops(image: np.ndarray, boxes_xyxy_norm: np.ndarray, size: int) -> np.ndarray:
    """Each box of the image, squashed to size x size: uint8 [R, size, size, 3].

    A box is cut at whole pixels (its edges rounded outwards, at least one pixel) and sees nothing outside of them.
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    out = np.empty((len(boxes_xyxy_norm), size, size, 3), np.uint8)
    for row, (x0, y0, x1, y1) in enumerate(boxes_xyxy_norm.tolist()):
        left, right = _pixels(x0 * width, x1 * width, width)
        top, bottom = _pixels(y0 * height, y1 * height, height)
        cut = picture.crop((left, top, right, bottom))
        out[row] = np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
    return out


def _pixels(low: float, high: float, limit: int) -> tuple[int, int]:
    """The whole pixels that [low, high] touches inside [0, limit], at least one."""
    first = min(max(0, math.floor(low + 1e-3)), limit - 1)
    return first, min(max(first + 1, math.ceil(high - 1e-3)), limit)
