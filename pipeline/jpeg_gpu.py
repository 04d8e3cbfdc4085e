"""JPEGs decoded on a GPU (nvJPEG through torchvision), those that it decodes as `pipeline.images.decode` would.

Its inverse transform and its chroma filter are not libjpeg's: pixels differ by a few levels, so the setting is part of the
fingerprint. Whatever is not a whole, upright, plain YCbCr JPEG is left to the CPU, which decodes or rejects it.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from pipeline.devices import resolve_device
from pipeline.images import MAX_SCANS, has_many_markers, n_scans
from pipeline.orientation import orientation

#: Encoded images, uint8 [n_bytes] each, and a device -> pixels, uint8 [3, H, W] each, on the device.
Decode = Callable[[list[torch.Tensor], str], list[torch.Tensor]]


class GpuJpegs:
    """Decodes the JPEGs of a micro-batch together. Raises ValueError where there is no GPU. decode: what a test puts in."""

    def __init__(self, device: str, max_pixels: int, decode: Decode | None = None):
        self._device = resolve_device(device)
        if decode is None and not self._device.startswith("cuda"):
            raise ValueError("jpeg_on: gpu asked for, and this machine has no usable GPU")
        self._max_pixels = max_pixels
        self._decode = decode or _torchvision

    def __call__(self, images: list[bytes]) -> list[np.ndarray | None]:
        """Pixels as uint8 [H, W, 3], upright RGB; None for each image that is the CPU's to decode or reject."""
        found: list[np.ndarray | None] = [None] * len(images)
        fit = [i for i, image in enumerate(images) if fits(image, self._max_pixels)]
        for i, pixels in zip(fit, self._decoded([images[i] for i in fit]), strict=True):
            found[i] = pixels
        return found

    def _decoded(self, images: list[bytes]) -> list[np.ndarray | None]:
        """Together; if that fails, each alone, so that a broken one costs only itself."""
        if not images:
            return []
        encoded = [torch.frombuffer(bytearray(image), dtype=torch.uint8) for image in images]
        try:
            decoded = self._decode(encoded, self._device)
            return [pixels.permute(1, 2, 0).contiguous().cpu().numpy() for pixels in decoded]
        except torch.OutOfMemoryError:
            raise  # what the CPU decodes must not depend on how full a GPU is
        except RuntimeError:
            return [None] if len(images) == 1 else [self._decoded([image])[0] for image in images]


def fits(image: bytes, max_pixels: int) -> bool:
    """Whether an image is a JPEG that a GPU decodes as the CPU would: upright YCbCr, whole, of allowed size and scans."""
    if image[:2] != b"\xff\xd8" or b"\xff\xd9" not in image[-64:]:
        return False
    if has_many_markers(image) and n_scans(image) > MAX_SCANS:
        return False
    try:
        header = Image.open(io.BytesIO(image))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises what it likes over broken bytes
        return False
    plain = header.format == "JPEG" and header.mode == "RGB" and header.info.get("adobe_transform", 1) == 1
    return plain and header.width * header.height <= max_pixels and orientation(image) == 1


def _torchvision(encoded: list[torch.Tensor], device: str) -> list[torch.Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg

    return decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
