"""One orientation, read from bytes and from an opened image, whatever the side data looks like."""

from __future__ import annotations

import io
import random
import struct
import warnings

import pytest
from PIL import Image, PngImagePlugin

from pipeline.images import decode
from pipeline.orientation import METHODS, orientation
from tests import pictures

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the side data
XMP = b"http://ns.adobe.com/xap/1.0/\0"
STORED = pictures.encode(pictures.photo(40, 24))


def segment(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def with_segments(*bodies: bytes) -> bytes:
    return STORED[:2] + b"".join(map(segment, bodies)) + STORED[2:]


def exif(value: int, **more: object) -> bytes:
    block = Image.Exif()
    block[274] = value
    block[271] = "a maker"
    return block.tobytes()


def tiff(entries: bytes, n: int, order: str = ">") -> bytes:
    head = b"MM\0*" if order == ">" else b"II*\0"
    return b"Exif\0\0" + head + struct.pack(f"{order}IH", 8, n) + entries + bytes(4)


def of_pillow(data: bytes) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
            value = image.getexif().get(274, 1)
        except Exception:  # noqa: BLE001 - whatever Pillow raises
            return 1
        return value if value in METHODS else 1


SIDE_DATA = {
    "nothing": ((), 1),
    "EXIF": ((exif(6),), 6),
    "XMP alone": ((XMP + b'<r tiff:Orientation="8"/>',), 8),
    "XMP as an element": ((XMP + b"<tiff:Orientation>3</tiff:Orientation>",), 3),
    "XMP before EXIF": ((XMP + b"<x/>", exif(6)), 6),
    "XMP and EXIF disagree": ((XMP + b'<r tiff:Orientation="8"/>', exif(6)), 6),
    "no TIFF in EXIF": ((b"Exif\0\0not a TIFF header",), 1),
    "LONG, big-endian": ((tiff(struct.pack(">HHII", 274, 4, 1, 6), 1),), 6),
    "BYTE, little-endian": ((tiff(struct.pack("<HHIB3x", 274, 1, 1, 6), 1, "<"),), None),
    "two values": ((tiff(struct.pack(">HHIHH", 274, 3, 2, 6, 3), 1),), None),
    "an entry that cannot be written back": (
        (tiff(struct.pack(">HHIHH", 274, 3, 1, 6, 0) + struct.pack(">HHII", 0x128, 4, 1, 131072), 2),),
        6,
    ),
    "a value out of range": ((exif(9),), 1),
}


@pytest.mark.parametrize("case", SIDE_DATA)
def test_jpegs_are_turned_alike_by_both_doors(case):
    bodies, expected = SIDE_DATA[case]
    data = with_segments(*bodies)
    found = orientation(data)
    assert found == of_pillow(data)
    assert expected in (None, found)
    pixels, _ = decode(data)
    assert pixels.shape[:2] == ((24, 40) if found < 5 else (40, 24))


def test_fuzzed_exif_never_costs_a_picture_and_never_turns_it_otherwise():
    rng = random.Random(0)
    for _ in range(300):
        blob = bytearray(exif(rng.randint(1, 8)))
        for _ in range(rng.choice([1, 1, 2, 4])):
            blob[rng.randrange(len(blob))] = rng.choice([0, 1, 3, 4, 6, 255, rng.randrange(256)])
        data = with_segments(bytes(blob[: rng.randrange(8, len(blob) + 1)]))
        found = orientation(data)
        assert found == of_pillow(data), blob.hex()
        assert decode(data)[0].shape[:2] == ((24, 40) if found < 5 else (40, 24))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_other_formats_have_an_orientation_too(image_format):
    data = pictures.encode(pictures.photo(40, 24), image_format, exif=exif(6))
    assert orientation(data) == 6
    assert decode(data)[0].shape[:2] == (40, 24)


def test_a_broken_exif_chunk_of_a_png_does_not_cost_it():
    data = pictures.encode(pictures.photo(40, 24), "PNG", exif=b"Exif\0\0not a TIFF header")
    assert decode(data)[0].shape[:2] == (24, 40)


def test_a_png_turned_by_xmp_stays_turned_when_another_chunk_is_wrong():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<r tiff:Orientation="6"/>')
    info.add_text("comment", "hello")
    data = bytearray(pictures.encode(pictures.photo(40, 24), "PNG", pnginfo=info))
    at = data.index(b"tEXt")
    data[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 255
    assert decode(bytes(data))[0].shape[:2] == (40, 24)


def test_what_is_no_image_is_not_turned():
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0", b"text", STORED[:100]):
        assert orientation(data) == 1
