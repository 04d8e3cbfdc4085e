from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.images import BadSample, decode
from tests import pictures


def test_plain_formats_keep_their_pixels_and_extension():
    image = pictures.photo()
    pixels, extension = decode(pictures.encode(image, "PNG"))
    assert extension == "png"
    np.testing.assert_array_equal(pixels, np.asarray(image))
    for image_format, expected in [("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif")]:
        pixels, extension = decode(pictures.encode(image, image_format))
        assert (extension, pixels.shape, pixels.dtype) == (expected, (32, 48, 3), np.uint8)


def test_cmyk_becomes_rgb():
    image = Image.new("RGB", (16, 16), (200, 30, 30))
    pixels, _ = decode(pictures.encode(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - (200, 30, 30)).max() < 12


def test_16_bit_png_keeps_its_whole_range():
    pixels, _ = decode(pictures.deep_png())
    assert pixels.shape == (8, 8, 3)
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.all(np.diff(pixels[:, :, 0].ravel().astype(int)) >= 0)


def test_exif_rotation_is_applied():
    pixels, _ = decode(pictures.rotated_by_exif())
    assert pixels.shape == (48, 32, 3)
    assert pixels[3, 16, 0] > 200  # red on top
    assert pixels[40, 16, 2] > 200  # blue below


def test_animation_gives_its_first_frame():
    pixels, extension = decode(pictures.animated_gif())
    assert extension == "gif"
    assert tuple(pixels[5, 5]) == (255, 0, 0)


def test_transparency_is_laid_on_white():
    pixels, _ = decode(pictures.encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"))
    assert pixels.min() == 255


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"no image at all", "not_an_image"),
        (pictures.encode(pictures.photo(400, 300), "JPEG")[:-700], "truncated"),
        (pictures.encode(pictures.photo(400, 300), "PNG")[:-700], "truncated"),
        (pictures.encode(pictures.photo(), "PPM"), "unsupported_format"),
    ],
)
def test_bad_bytes_say_why(data, reason):
    with pytest.raises(BadSample) as e:
        decode(data)
    assert e.value.reason == reason


def test_too_many_pixels_are_refused_before_they_are_decoded():
    with pytest.raises(BadSample) as e:
        decode(pictures.encode(pictures.photo(100, 100), "PNG"), max_pixels=9999)
    assert e.value.reason == "too_large"
