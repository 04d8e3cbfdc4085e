"""Images and boxes as a tower wants them: resized, cropped, normalised. Pure; Pillow does the resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


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
        mean = torch.tensor(self.mean, device=pixels.device) * 255.0
        std = torch.tensor(self.std, device=pixels.device) * 255.0
        return ((pixels.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [*size, 3], bicubic with antialiasing."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def crops(image: np.ndarray, boxes_xyxy_norm: np.ndarray, size: int) -> np.ndarray:
    """Each box of the image, squashed to size x size: uint8 [R, size, size, 3]. Boxes are cut at sub-pixel edges."""
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    out = np.empty((len(boxes_xyxy_norm), size, size, 3), np.uint8)
    for row, (x0, y0, x1, y1) in enumerate(boxes_xyxy_norm.tolist()):
        box = _at_least_a_pixel(x0 * width, x1 * width, width) + _at_least_a_pixel(
            y0 * height, y1 * height, height
        )
        cut = (box[0], box[2], box[1], box[3])
        out[row] = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=cut))
    return out


def _at_least_a_pixel(low: float, high: float, limit: int) -> tuple[float, float]:
    """The interval, cut to [0, limit] and widened to one pixel where it is narrower."""
    low, high = max(0.0, low), min(float(limit), high)
    if high - low >= 1.0:
        return low, high
    low = min(max(0.0, (low + high - 1.0) / 2.0), limit - 1.0)
    return low, low + 1.0
