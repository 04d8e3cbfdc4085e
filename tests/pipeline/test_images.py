from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipeline.images import MAX_SCANS, BadSample, decode, has_many_markers, n_scans
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


def png(**options):
    return bytearray(pictures.encode(pictures.photo(), "PNG", **options))


def text_of(text, zip):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text, zip=zip)
    return info


def test_side_chunks_of_a_png_cost_no_picture():
    wrong_sum = png(pnginfo=text_of("hello", False))
    at = wrong_sum.index(b"tEXt")
    wrong_sum[at + 4 + int.from_bytes(wrong_sum[at - 4 : at], "big")] ^= 255
    large_text = png(pnginfo=text_of("x" * 2_000_000, True))
    large_profile = png(icc_profile=bytes(2_000_000))
    for data in (wrong_sum, large_text, large_profile):
        pixels, extension = decode(bytes(data))
        assert extension == "png"
        np.testing.assert_array_equal(pixels, np.asarray(pictures.photo()))


def test_the_setting_beats_the_limit_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = pictures.encode(pictures.photo(30, 30), "PNG")
    assert decode(data, max_pixels=900)[0].shape == (30, 30, 3)


def test_a_canvas_is_not_laid_out_before_its_size_is_known():
    declared = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0" * 2 + bytes(8)
    data = b"RIFF" + struct.pack("<I", len(declared)) + declared
    with pytest.raises(BadSample) as e:
        decode(data)
    assert (e.value.reason, e.value.detail) == ("too_large", "16384 x 16384 pixels")


def test_thousands_of_scans_are_refused_at_once():
    data = pictures.encode(pictures.photo(400, 300), "JPEG", progressive=True)
    assert 2 < n_scans(data) < MAX_SCANS
    decode(data)
    last = data.rindex(b"\xff\xda")
    many = data[:last] + data[last:-2] * (MAX_SCANS + 1) + data[-2:]
    with pytest.raises(BadSample) as e:
        decode(many)
    assert e.value.reason == "too_many_scans"
    decode(data + b"\xff\xda" * 200)  # what follows the picture is none of it


def test_an_error_of_the_machine_is_no_fault_of_the_bytes(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        decode(b"x")


def test_markers_of_scans_are_counted_at_every_offset():
    for size in (0, 1, 2, 3, 4001, 4002):
        data = np.random.default_rng(size).integers(0, 2, size, dtype=np.uint8) * 37 + 218  # 0xDA and 0xFF
        for content in (data.tobytes(), bytearray(data), memoryview(data)):
            assert has_many_markers(content) == (data.tobytes().count(b"\xff\xda") > MAX_SCANS)
    assert not has_many_markers(b"\xff\xda" * MAX_SCANS)
    assert has_many_markers(b"." + b"\xff\xda" * (MAX_SCANS + 1))
