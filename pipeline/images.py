"""Image bytes -> upright 8-bit RGB pixels, or the reason why not."""

from __future__ import annotations

import contextlib
import io
import warnings
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.orientation import METHODS, orientation, orientation_of

#: The member extension of each format we keep. Anything else is rejected as `unsupported_format`.
EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
}


class BadSample(Exception):
    """A sample that cannot be used: `reason` is one fixed word, `detail` is for people."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


#: Scans of a JPEG that are decoded. Encoders make about ten; thousands keep a processor busy for a minute.
MAX_SCANS = 100
_SCAN = 0xDAFF  # FF DA, as a little-endian number
_PNG = b"\x89PNG\r\n\x1a\n"
#: The chunks of a PNG that its pixels depend on, and those that may say how it is to be turned.
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_TURNING_CHUNKS = frozenset({b"eXIf", b"iTXt"})
_MAX_SIDE_CHUNK = 1 << 18

# Pillow warns of broken side data, once for each place in its code. That is no news to anybody here, and filters that are
# put up and taken down around each image are not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, max_pixels: int = 100_000_000, min_short_side: int = 0) -> tuple[np.ndarray, str]:
    """Pixels as uint8 [H, W, 3] RGB, upright (`pipeline.orientation`), and the member extension.

    min_short_side > 0: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps that
    many pixels, which is several times faster.

    CMYK, palette and grey images become RGB; transparency is laid on white; 16-bit samples keep their high byte; of an
    animation the first frame counts. Side data that cannot be read (EXIF, text, profiles, their checksums) is passed
    over. Raises BadSample: empty_file, not_an_image, unsupported_format, too_large, too_many_scans, truncated. Any other
    error is none of the bytes' fault.
    """
    if not data:
        raise BadSample("empty_file", "0 bytes")
    _allow(max_pixels)
    try:
        return _decode(data, max_pixels, min_short_side)
    except BadSample as e:
        pixels_alone = _without_side_chunks(data) if data.startswith(_PNG) else data
        if e.reason not in ("not_an_image", "truncated") or len(pixels_alone) == len(data):
            raise
        with contextlib.suppress(BadSample):
            return _decode(pixels_alone, max_pixels, min_short_side)
        raise


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an image that `decode` takes, by its header; not turned. Nothing is decoded."""
    return Image.open(io.BytesIO(data)).size


def upright_size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an image once it is upright, by its header; (0, 0) where no header can be read."""
    width, height = _webp_size(data)
    if not width:
        try:
            width, height = size_of(data)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - Pillow raises what it likes over broken bytes; there is no I/O in here
            return 0, 0
    return (height, width) if orientation(data) >= 5 else (width, height)


def _allow(max_pixels: int) -> None:
    """Lifts Pillow's own limit where ours is above it. It is never lowered, so that threads cannot disturb each other."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _decode(data: bytes, max_pixels: int, min_short_side: int) -> tuple[np.ndarray, str]:
    _check_size(*_webp_size(data), max_pixels)
    if has_many_markers(data) and data[:2] == b"\xff\xd8" and n_scans(data) > MAX_SCANS:
        raise BadSample("too_many_scans", f"more than {MAX_SCANS} scans")
    try:
        image = Image.open(io.BytesIO(data))
        extension = EXTENSIONS.get(image.format or "")
        if extension is None:
            raise BadSample("unsupported_format", str(image.format))
        _check_size(*image.size, max_pixels)
        shrink = max(1.0, min(image.size) / min_short_side) if min_short_side else 1.0
        image.draft("RGB", (int(image.width / shrink), int(image.height / shrink)))
        image.load()
        method = METHODS.get(orientation_of(image))
        return np.asarray(_to_rgb(image if method is None else image.transpose(method))), extension
    except (BadSample, MemoryError):
        raise
    except UnidentifiedImageError as e:
        raise BadSample("not_an_image", f"{len(data)} bytes of no known image format") from e
    except Image.DecompressionBombError as e:
        raise BadSample("too_large", str(e)) from e
    except Exception as e:  # decoders raise what they like over broken bytes; there is no I/O in here
        raise BadSample("truncated", f"{type(e).__name__}: {e}") from e


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadSample("too_large", f"{width} x {height} pixels")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP declares, 0 x 0 for other data. Pillow lays its canvas out as it opens the file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0, 0
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (int.from_bytes(data[26:28], "little") & 0x3FFF), (int.from_bytes(data[28:30], "little") & 0x3FFF)


def has_many_markers(data: bytes | bytearray | memoryview) -> bool:
    """Whether the two bytes that start a scan stand in `data` more often than `MAX_SCANS` times: a JPEG without that many
    has no more scans. Four times as fast as `bytes.count`, which every image would pay."""
    view = np.frombuffer(data, np.uint8)
    halves = (view[at : at + (len(view) - at) // 2 * 2].view("<u2") for at in (0, 1))
    return sum(int(np.count_nonzero(pairs == _SCAN)) for pairs in halves) > MAX_SCANS


def n_scans(data: bytes) -> int:
    """Scans of a JPEG, by its markers up to the end of the image; counted no further than one above `MAX_SCANS`."""
    at, found = 2, 0
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD8:
            at = data.find(b"\xff", at + 1)  # inside of a scan, or padding
            if at < 0:
                break
            continue
        if marker == 0xD9 or found > MAX_SCANS:
            break
        found += marker == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found


def _without_side_chunks(data: bytes) -> bytes:
    """A PNG without the chunks that no pixel depends on; those that may tell its orientation stay if they are sound."""
    kept = [_PNG]
    at = len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 12 + length
        chunk = data[at:end]
        sound = len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind in _PIXEL_CHUNKS or (kind in _TURNING_CHUNKS and sound and length <= _MAX_SIDE_CHUNK):
            kept.append(chunk)
        at = end
    return b"".join(kept)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image  # `convert` would copy it
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.int64)
        # Mode "I" holds what a 16-bit grey file held; only larger values would be of another depth.
        return Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image, np.float32))
        span = float(grey.max() - grey.min()) or 1.0
        return Image.fromarray(((grey - grey.min()) / span * 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        canvas.alpha_composite(rgba)
        return canvas.convert("RGB")
    return image.convert("RGB")
