"""The hashes of an image: of its bytes, of its pixels, and a perceptual one."""

from __future__ import annotations

import functools
import hashlib
from types import ModuleType

import numpy as np
from PIL import Image

from pipeline.images import decode

#: Shorter side, in pixels, of what a perceptual hash is made of. A JPEG is decoded no larger than it has to be.
SIDE_PX = 128
#: Bits set in every number of 16 bits.
_BITS = np.array([bin(n).count("1") for n in range(1 << 16)], np.uint8)


@functools.cache
def library() -> ModuleType:
    """imagehash, which only near duplicates need. Raises ModuleNotFoundError with a line that says how to get it."""
    try:
        import imagehash
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(
            "near duplicates need imagehash: pip install 'regionpairs[duplicates]'"
        ) from e
    return imagehash


def of_pixels(pixels: np.ndarray) -> bytes:
    """32 bytes: sha256 of the size and of upright RGB pixels, uint8 [H, W, 3]."""
    digest = hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def perceptual(pixels: np.ndarray) -> tuple[int, int]:
    """64-bit hashes of an image and of its mirror image (pHash: the signs of low frequencies around their median).

    pixels: uint8 [H, W, 3].
    """
    image = Image.fromarray(pixels)
    small = image.reduce(max(1, min(image.size) // SIDE_PX)).convert("L")
    mirrored = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _phash(small), _phash(mirrored)


def _phash(image: Image.Image) -> int:
    bits = library().phash(image).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def of_image(image: bytes, pixels: bool, near: bool, max_pixels: int) -> tuple[bytes, bytes, int, int]:
    """sha256 of the bytes, hash of the pixels (b"" unless wanted), both perceptual hashes (0 unless wanted).

    Raises BadSample as `decode` does, where anything is to be decoded.
    """
    sha256 = hashlib.sha256(image).digest()
    if not pixels and not near:
        return sha256, b"", 0, 0
    decoded, _ = decode(image, max_pixels, 0 if pixels else SIDE_PX)
    return sha256, of_pixels(decoded) if pixels else b"", *(perceptual(decoded) if near else (0, 0))


def distances(a: np.ndarray, b: np.ndarray | np.uint64) -> np.ndarray:
    """In how many bits uint64 hashes differ, elementwise and broadcast."""
    words = np.ascontiguousarray(np.bitwise_xor(a, b))[..., None].view(np.uint16)
    return _BITS[words].sum(axis=-1, dtype=np.uint8)
