"""Images of any size onto the canvas a network expects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class Fit:
    """How a network wants its input.

    short_side, long_side: pixels; the image is scaled so that its short side has `short_side` pixels, or less where
    its long side would pass `long_side`.
    multiple: the canvas is padded (right, bottom, with zeros after normalisation) to a multiple of this.
    mean, std: of RGB values in [0, 1].
    """

    short_side: int
    long_side: int
    multiple: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def fitted_size(width: int, height: int, fit: Fit) -> tuple[int, int]:
    """(width, height) in whole pixels after scaling, never less than 1; the aspect ratio may bend by rounding."""
    scale = min(fit.short_side / min(width, height), fit.long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def is_image(image: np.ndarray) -> bool:
    """True for a uint8 [H, W, 3] array with any pixels; ValueError for an array that is no such image at all."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return image.size > 0


def place(image: np.ndarray, fit: Fit) -> tuple[torch.Tensor, int, int]:
    """uint8 [H, W, 3] RGB -> (float32 [3, H', W'] canvas, width, height of the image on it, in pixels)."""
    width, height = fitted_size(image.shape[1], image.shape[0], fit)
    if (width, height) != (image.shape[1], image.shape[0]):
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
    pixels.sub_(torch.tensor(fit.mean)[:, None, None]).div_(torch.tensor(fit.std)[:, None, None])
    down = -height % fit.multiple
    right = -width % fit.multiple
    return torch.nn.functional.pad(pixels, (0, right, 0, down)), width, height
