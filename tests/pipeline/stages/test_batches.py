"""Micro-batches by size: every image once, as many full ones of one size as there are, and nothing of it in the result."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from PIL import Image

from pipeline import teachers
from pipeline.build import build
from pipeline.images import decode, upright_size_of
from pipeline.run_local import LocalRunner
from pipeline.stages.batches import in_order, micro_batches, seen_size
from tests import pictures
from tests.fakes import ColorTeacher
from tests.pipeline import worlds


@pytest.mark.parametrize("largest", [1, 3, 8])
def test_every_image_is_in_one_batch_and_as_many_as_can_be_are_of_one_size(largest):
    chance = random.Random(largest)
    sizes = [(chance.choice([20, 30, 40, 50]), 40) for _ in range(53)]
    batches = micro_batches(sizes, largest)
    assert sorted(i for batch in batches for i in batch) == list(range(53))
    assert max(map(len, batches)) <= largest
    passes = sum(len({sizes[i] for i in batch}) for batch in batches)
    assert passes == sum(-(-n // largest) for n in Counter(sizes).values())
    whole = sum(len(b) == largest and len({sizes[i] for i in b}) == 1 for b in batches)
    assert whole >= sum(n // largest for n in Counter(sizes).values())


def test_images_of_one_size_stay_in_the_order_of_the_part():
    assert micro_batches([(1, 1), (2, 2), (1, 1), (3, 3), (2, 2), (1, 1)], 2) == [[0, 2], [1, 4], [3, 5]]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_header_tells_the_size_that_decoding_gives(form):
    data = pictures.encode(pictures.photo(48, 32), form)
    assert upright_size_of(data) == decode(data)[0].shape[1::-1] == (48, 32)


def test_a_turned_picture_counts_as_it_is_seen_and_a_broken_one_as_none():
    turned = pictures.rotated_by_exif()
    assert upright_size_of(turned) == decode(turned)[0].shape[1::-1] == (32, 48)
    assert seen_size(turned, lambda height, width: (2 * height, width)) == (96, 32)
    for broken in (b"", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X", b"no image at all"):
        assert seen_size(broken, lambda height, width: (height, width)) == (0, 0)


def test_rows_come_back_in_the_order_of_the_samples():
    rows = [{"key": "c"}, {"key": "a", "n": 1}, {"key": "a", "n": 2}]
    assert in_order(rows, ["a", "b", "c"], "key") == [rows[1], rows[2], rows[0]]


class Watched(ColorTeacher):
    """Notes the sizes of each call."""

    def __init__(self, calls: list[list[tuple[int, ...]]]):
        self.calls = calls

    def encode_regions(self, images, boxes_xyxy_norm):
        self.calls.append([image.shape[:2] for image in images])
        return super().encode_regions(images, boxes_xyxy_norm)


class Sized(Watched):
    def seen_size(self, height, width):
        return height, width


def test_a_build_sends_sizes_together_and_writes_what_it_would_write_without(tmp_path, monkeypatch):
    source = worlds.coco_folder(tmp_path / "input", 12)
    for i in range(0, 12, 3):
        path = tmp_path / "input" / "images" / f"{i:03d}.jpg"
        path.write_bytes(pictures.encode(Image.open(path).resize((30, 30))))
    (tmp_path / "input" / "images" / "004.jpg").write_bytes(b"no image")
    (tmp_path / "input" / "images" / "009.jpg").write_bytes(b"")
    found, calls = {}, {}
    for kind in (Watched, Sized):
        calls[kind] = []
        monkeypatch.setattr(teachers, "load", lambda settings, kind=kind: kind(calls[kind]))
        settings = worlds.settings(
            tmp_path / kind.__name__, source, samples_per_shard=12, workers=1, reject_budget=1.0
        )
        assert build(settings, LocalRunner())["n_samples"] == 10
        found[kind] = {
            p: worlds.hashes(tmp_path / kind.__name__, p) for p in ("shards/*", "index/*", "*.parquet")
        }
    assert found[Sized] == found[Watched]
    assert [len(set(call)) for call in calls[Watched]] == [2, 2, 1]
    assert [(len(call), len(set(call))) for call in calls[Sized]] == [(4, 1), (3, 1), (3, 1)]
