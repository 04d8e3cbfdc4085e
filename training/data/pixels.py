"""Image bytes -> pixels of a view: what Pillow would give, and faster."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import get_worker_info
from torchvision.io import ImageReadMode, decode_jpeg

from pipeline import images
from pipeline.orientation import orientation

_MAX_PIXELS = 100_000_000
#: Markers of frame headers: C0 to CF without the tables (C4), the extension (C8) and the arithmetic conditioning (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: The first marker without a length, and the start of a scan.
_RESTART, _SCAN = 0xD0, 0xDA


def decode(data: bytearray | memoryview, min_short_side: int = 0) -> torch.Tensor:
    """Upright pixels, uint8 [H, W, 3] RGB: those of `pipeline.images.decode`, which the teacher saw. Raises BadSample.

    Grey and colour JPEGs go through torchvision, whose decoder is the same libjpeg without Pillow's two copies.
    Everything else, and every file that torchvision refuses, is Pillow's; the orientation is the pipeline's
    (`pipeline.orientation`). min_short_side > 0 allows a JPEG to be decoded at a reduced size, which only Pillow can do.
    """
    if not min_short_side and 0 < _jpeg_pixels(data) <= _MAX_PIXELS and not images.has_many_markers(data):
        pixels = _by_torchvision(data)
        if pixels is not None:
            return turned(pixels, orientation(data))
    by_pillow, _ = images.decode(bytes(data), _MAX_PIXELS, min_short_side)
    return torch.from_numpy(by_pillow.copy())  # Pillow's array is read-only


def _by_torchvision(data: bytearray | memoryview) -> torch.Tensor | None:
    """Pixels as they are stored, [H, W, 3]; None where Pillow has the last word, and names the reason."""
    try:
        pixels = decode_jpeg(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.UNCHANGED)
    except RuntimeError:
        return None
    if len(pixels) == 3:
        return pixels.permute(1, 2, 0)
    return pixels[0, :, :, None].expand(-1, -1, 3) if len(pixels) == 1 else None


def turned(pixels: torch.Tensor, orientation: int) -> torch.Tensor:
    """[H, W, 3] as stored -> upright, by the EXIF orientation 1 to 8 (EXIF 2.3, section 4.6.4)."""
    if orientation > 4:
        pixels = pixels.transpose(0, 1)
    axes = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}[orientation]
    return pixels.flip(axes) if axes else pixels


def _jpeg_pixels(data: bytearray | memoryview) -> int:
    """Height x width by the frame header of a JPEG; 0 for anything but a plain sequence of segments up to its scan."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    n_pixels = 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SCAN:
            return n_pixels
        if (
            marker < 0xC0 or _RESTART <= marker < _SCAN or marker == 0xFF
        ):  # a marker without a length, or fill bytes
            break
        if marker in _FRAMES and at + 9 <= len(data):
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            n_pixels = height * width
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def target_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width after scaling the shorter side to short_side, or the longer to long_side if that is less."""
    if short_side == 0:
        return height, width
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize(pixels: torch.Tensor, height: int, width: int, out: torch.Tensor | None = None) -> torch.Tensor:
    """uint8 [H, W, 3] -> uint8 [height, width, 3], bicubic with antialiasing; into `out`, contiguous, if it is given.

    Pillow's filter and fixed-point weights, several times as fast; a value differs now and then by one or two levels,
    in tiny images by a few.
    """
    if pixels.shape[:2] == (height, width):
        return pixels if out is None else out.copy_(pixels)
    if out is None:
        out = pixels.new_empty((height, width, 3))
    x, y = (t[None].permute(0, 3, 1, 2) for t in (pixels, out))  # in this order torch sees channels last
    torch.ops.aten._upsample_bicubic2d_aa.out(x, [height, width], False, None, None, out=y)
    return out


class PixelBuffer:
    """Images one after the other in the memory in which a batch travels. Each is written once, right after it was decoded.

    n_bytes: how much there will be, as far as it is known. The buffer grows where it is too small.
    """

    def __init__(self, n_bytes: int):
        self._memory = _allocate(n_bytes)
        self._filled = 0

    def add(self, image: torch.Tensor, height: int, width: int) -> None:
        """Appends uint8 [H, W, 3], resized to [height, width, 3]."""
        end = self._filled + height * width * 3
        if end > len(self._memory):
            larger = _allocate(2 * end)
            larger[: self._filled] = self.images()
            self._memory = larger
        resize(image, height, width, out=self._memory[self._filled : end].view(height, width, 3))
        self._filled = end

    def images(self) -> torch.Tensor:
        """uint8 [P], all of them."""
        return self._memory[: self._filled]


def _allocate(n_bytes: int) -> torch.Tensor:
    """uint8 [n_bytes]; in a loader process shared memory, as torch's own collation does, which spares the batch a copy."""
    if get_worker_info() is None:
        # NumPy asks for huge pages, torch does not: with small ones fresh memory costs as much as filling it.
        return torch.from_numpy(np.empty(n_bytes, np.uint8))
    storage = torch.UntypedStorage._new_shared(n_bytes, device="cpu")
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (n_bytes,), (1,))
