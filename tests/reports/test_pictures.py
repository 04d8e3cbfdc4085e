"""Pictures for a page: they fit, whatever they show."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from pipeline.images import BadSample
from reports.pictures import crop, data_uri, difference_hash, shrunk, thumbnail
from tests.pictures import encode, photo, rotated_by_exif


def _size(uri: str) -> int:
    return len(base64.b64decode(uri.partition(",")[2]))


def test_noise_is_made_to_fit():
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8)
    assert _size(data_uri(Image.fromarray(noise))) <= 20_000
    assert _size(data_uri(Image.fromarray(noise), max_bytes=2_000)) <= 2_000


def test_a_thumbnail_is_upright():
    picture = shrunk(rotated_by_exif(), 40)
    assert picture.height > picture.width
    assert thumbnail(rotated_by_exif()).startswith("data:image/jpeg;base64,")


def test_what_is_no_image_is_said():
    with pytest.raises(BadSample):
        thumbnail(b"no image")


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0.99, 0.99, 1, 1], [1, 1, 1, 1], [0.5, 0.2, 0.500001, 0.9]])
def test_any_box_gives_a_crop(box: list[float]):
    assert crop(photo(60, 40), np.array(box)).startswith("data:image/jpeg;base64,")


def test_copies_look_the_same_and_other_pictures_do_not():
    first = difference_hash(shrunk(encode(photo(200, 120, seed=1), quality=95), 64))
    resized = difference_hash(shrunk(encode(photo(200, 120, seed=1).resize((160, 96)), quality=95), 64))
    other = difference_hash(shrunk(encode(photo(200, 120, seed=2), quality=95), 64))
    assert (first ^ resized).bit_count() <= 3
    assert (first ^ other).bit_count() > 10
