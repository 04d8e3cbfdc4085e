"""Image bytes -> upright 8-bit RGB pixels, or the reason why not."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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


def decode(data: bytes, max_pixels: int = 100_000_000, min_short_side: int = 0) -> tuple[np.ndarray, str]:
    """Pixels as uint8 [H, W, 3] RGB, upright (EXIF orientation applied), and the member extension.

    min_short_side > 0: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps that
    many pixels, which is several times faster.

    CMYK, palette and grey images become RGB; transparency is laid on white; 16-bit samples keep their high byte; of an
    animation the first frame counts. Raises BadSample: empty_file, not_an_image, unsupported_format, too_large,
    truncated.
    """
    if not data:
        raise BadSample("empty_file", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            extension = EXTENSIONS.get(image.format or "")
            if extension is None:
                raise BadSample("unsupported_format", str(image.format))
            if image.width * image.height > max_pixels:
                raise BadSample("too_large", f"{image.width} x {image.height} pixels")
            shrink = max(1.0, min(image.size) / min_short_side) if min_short_side else 1.0
            image.draft("RGB", (int(image.width / shrink), int(image.height / shrink)))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_to_rgb(image)), extension
    except UnidentifiedImageError as e:
        raise BadSample("not_an_image", f"{len(data)} bytes of no known image format") from e
    except Image.DecompressionBombError as e:
        raise BadSample("too_large", str(e)) from e
    except (OSError, SyntaxError, ValueError, EOFError) as e:
        raise BadSample("truncated", str(e)) from e


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
