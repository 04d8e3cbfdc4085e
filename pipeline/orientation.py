"""How a stored picture must be turned: one rule for the pipeline and the trainer, Pillow's.

EXIF says it (tag 274), else XMP. Whatever of it is broken is as if it were not there: side data never costs a picture.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image

TAG = 0x0112
#: EXIF's value -> what makes the picture upright. 1, and whatever is not listed, needs nothing.
METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF = b"Exif\0\0"
_SHORT = 3
#: Bytes of a value of each of TIFF's types.
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def orientation(data: bytes | bytearray | memoryview) -> int:
    """1 to 8 as EXIF counts them, of encoded image bytes; 1 where nothing is said. Never raises but for memory.

    No pixel of a JPEG is decoded. A JPEG without side data, or with the usual EXIF alone, costs some microseconds.
    """
    known = _of_plain_jpeg(data)
    if known:
        return known
    try:
        with Image.open(io.BytesIO(data)) as image:
            return orientation_of(image)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises what it likes over broken side data
        return 1


def orientation_of(image: Image.Image) -> int:
    """The same of an image that Pillow has opened."""
    try:
        value: Any = image.getexif().get(TAG, 1)
        return int(value) if value in METHODS else 1
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises what it likes over broken side data
        return 1


def _of_plain_jpeg(data: bytes | bytearray | memoryview) -> int:
    """The orientation of a JPEG whose only APP1 segment, if any, is EXIF of the usual form; 0: ask Pillow."""
    exif: memoryview | None = None
    view = memoryview(data)
    if view[:2] != b"\xff\xd8":
        return 0
    at, n = 2, len(view)
    while at + 4 <= n and view[at] == 0xFF:
        marker = view[at + 1]
        if marker == 0xDA:
            return 1 if exif is None else _of_exif(exif)
        length = view[at + 2] << 8 | view[at + 3]
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or marker == 0xFF or length < 2 or at + 2 + length > n:
            return 0
        if marker == 0xE1:
            if exif is not None or view[at + 4 : at + 10] != _EXIF:
                return 0
            exif = view[at + 10 : at + 2 + length]
        at += 2 + length
    return 0


def _of_exif(tiff: memoryview) -> int:
    """The orientation in a TIFF directory where it is one SHORT behind entries that are whole; 1 where there is none.

    0: ask Pillow, which gives up at some kinds of broken entries and passes over others.
    """
    head = bytes(tiff[:4])
    if head not in (b"II*\0", b"MM\0*") or len(tiff) < 14:
        return 0
    order = "<" if head[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start < 8 or start + 2 > len(tiff):
        return 0
    (n,) = struct.unpack_from(order + "H", tiff, start)
    if start + 2 + 12 * n > len(tiff):
        return 0
    n_data = 0
    for tag, kind, count, value in struct.iter_unpack(order + "HHI4s", tiff[start + 2 : start + 2 + 12 * n]):
        if tag == TAG:
            if kind != _SHORT or count != 1:
                return 0
            (found,) = struct.unpack(order + "H", value[:2])
            return found if found in METHODS else 1
        size = count * _UNITS.get(kind, 0)
        if size > 4:
            n_data += size
            (at,) = struct.unpack(order + "I", value)
            if at + size > len(tiff) or n_data > len(tiff) // 2:
                return 0
    return 1
