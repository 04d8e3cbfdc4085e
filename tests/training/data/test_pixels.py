"""Decoding and resizing against Pillow."""

from __future__ import annotations

import io
import struct

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from pipeline import images
from pipeline.images import BadSample
from training.data import pixels


def _picture(height: int, width: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _outcome(decode, data) -> torch.Tensor | str:
    try:
        return decode(data)
    except BadSample as e:
        return e.reason


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
def test_jpegs_are_those_of_the_pipeline_to_the_last_bit(mode, options):
    data = _encoded(_picture(61, 83).convert(mode), **options)
    assert np.array_equal(pixels.decode(bytearray(data)).numpy(), images.decode(data)[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_come_out_upright(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = _encoded(_picture(40, 72), exif=exif)
    assert np.array_equal(pixels.decode(bytearray(data)).numpy(), images.decode(data)[0])


XMP = b"http://ns.adobe.com/xap/1.0/\0"


def _segment(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def _with_segments(bodies: list[bytes], kind: str = "baseline") -> bytes:
    data = _encoded(_picture(24, 40), progressive=kind == "progressive")
    return data[:2] + b"".join(map(_segment, bodies)) + data[2:]


def _exif(rng: np.random.Generator) -> bytes:
    """An EXIF segment's body: right, odd (types, counts, byte orders, several tags) or damaged."""
    order = "<" if rng.random() < 0.5 else ">"
    kind, count = (
        int(rng.choice([3, 3, 3, 1, 2, 4, 7, 9, 12, 0, 200])),
        int(rng.choice([1, 1, 1, 0, 2, 5, 10**9])),
    )
    value = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 6, 0, 9, 65535]))
    packed = {3: struct.pack(order + "HH", value, 0), 1: bytes([value & 255, 0, 0, 0])}
    field = packed.get(kind, struct.pack(order + "I", value))
    entries = [struct.pack(order + "HHI", 0x0112, kind, count) + field]
    if rng.random() < 0.4:
        entries.insert(int(rng.integers(2)), struct.pack(order + "HHI", 0x0100, 4, 1) + b"\0\0\0\1")
    if rng.random() < 0.1:
        entries.append(struct.pack(order + "HHI", 0x0112, 3, 1) + struct.pack(order + "HH", 8, 0))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    body = b"Exif\0\0" + head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    if rng.random() < 0.25:
        at = int(rng.integers(len(body)))
        body = (
            body[:at] if rng.random() < 0.5 else body[:at] + bytes([int(rng.integers(256))]) + body[at + 1 :]
        )
    return body


def _xmp(rng: np.random.Generator) -> bytes:
    text = [
        b'tiff:Orientation="%d"',
        b"<tiff:Orientation>%d</tiff:Orientation>",
        b"tiff:Orientation='%d'",
        b"%d",
    ]
    return XMP + b"<x>" + text[int(rng.integers(4))] % int(rng.integers(0, 10)) + b"</x>"


@pytest.mark.parametrize("block", range(4))
def test_three_thousand_jpegs_with_all_kinds_of_orientation_look_as_the_pipeline_saw_them(block):
    rng = np.random.default_rng(block)
    makers = [_exif, _exif, _xmp, lambda r: b"Exif\0\0", lambda r: b"something else", lambda r: b""]
    turned = 0
    for i in range(750):
        bodies = [makers[int(rng.integers(len(makers)))](rng) for _ in range(int(rng.integers(1, 4)))]
        data = _with_segments(bodies, "progressive" if i % 5 == 0 else "baseline")
        ours = _outcome(lambda b: pixels.decode(bytearray(b)), data)
        theirs = _outcome(lambda b: images.decode(b)[0], data)
        if isinstance(ours, str) or isinstance(theirs, str):
            assert isinstance(ours, str)
            assert ours == theirs, data[:200]
            continue
        assert np.array_equal(ours.numpy(), theirs), data[:200]
        turned += theirs.shape[0] == 40
    assert turned > 50


def test_a_jpeg_of_very_many_scans_is_refused_as_the_pipeline_does():
    data = _encoded(_picture(24, 40), progressive=True)
    scan = data.index(b"\xff\xda")
    bomb = data[:scan] + data[scan:-2] * 300 + data[-2:]
    assert (
        _outcome(lambda b: pixels.decode(bytearray(b)), bomb)
        == _outcome(images.decode, bomb)
        == "too_many_scans"
    )


def test_fill_bytes_and_markers_without_a_length_are_left_to_pillow():
    exif = Image.Exif()
    exif[274] = 6
    data = _encoded(_picture(24, 40), exif=exif)
    for filler in (b"\xff", b"\xff\xff\xff", b"\xff\x01"):
        for odd in (data[:2] + filler + data[2:], data[:20] + filler + data[20:]):
            ours = _outcome(lambda b: pixels.decode(bytearray(b)).tolist(), odd)
            assert ours == _outcome(lambda b: images.decode(b)[0].tolist(), odd)


def test_other_formats_and_reduced_sizes_are_left_to_pillow():
    for data in (_encoded(_picture(30, 20), "PNG"), _encoded(_picture(30, 20), "WEBP")):
        assert np.array_equal(pixels.decode(bytearray(data)).numpy(), images.decode(data)[0])
    assert pixels.decode(bytearray(_encoded(_picture(400, 600))), min_short_side=90).shape == (100, 150, 3)


def test_an_image_that_would_fill_the_memory_is_rejected():
    data = bytearray(_encoded(_picture(64, 64)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # height and width 65500
    with pytest.raises(BadSample, match="too_large"):
        pixels.decode(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.integers(0, 10_000))
def test_a_cut_jpeg_is_rejected_as_the_pipeline_does(seed, cut):
    whole = _encoded(_picture(64, 64, seed))
    broken = whole[: cut % len(whole)]
    ours = _outcome(lambda b: pixels.decode(bytearray(b)), broken)
    assert isinstance(ours, str)
    assert ours == _outcome(images.decode, broken)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_rejected_or_gives_some_pixels(data):
    whole = bytearray(_encoded(_picture(64, 64, seed=data.draw(st.integers(0, 3)))))
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=40))
    outcome = _outcome(pixels.decode, whole[:start] + noise + whole[start + len(noise) :])
    assert isinstance(outcome, str) or outcome.shape[2] == 3


@settings(max_examples=40, deadline=None)
@given(*(st.integers(16, 120) for _ in range(4)))
def test_resizing_is_pillows_up_to_rounding(height, width, new_height, new_width):
    image = _picture(height, width)
    want = np.asarray(image.resize((new_width, new_height), Image.Resampling.BICUBIC)).astype(int)
    off = np.abs(pixels.resize(torch.from_numpy(np.array(image)), new_height, new_width).numpy() - want)
    assert off.shape == (new_height, new_width, 3)
    assert off.max() <= 4
    assert off.mean() < 0.5


def test_a_buffer_holds_the_images_in_their_sizes_and_grows():
    rng = np.random.default_rng(0)
    shown = [
        torch.from_numpy(rng.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((4, 6), (30, 20), (5, 5))
    ]
    buffer = pixels.PixelBuffer(80)  # room for the first
    for image in shown:
        buffer.add(image, *image.shape[:2])
    buffer.add(shown[1], 15, 10)
    want = [*shown, pixels.resize(shown[1], 15, 10)]
    assert torch.equal(buffer.images(), torch.cat([image.flatten() for image in want]))
