"""The contact sheet: what it reads, what it draws, and what it does with data that cannot be drawn."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storage
from pipeline.build import build
from pipeline.dataset import Dataset, Sample
from pipeline.run_local import LocalRunner
from reports import contact_sheet
from reports.choose import read, spread
from tests.fakes import ColorTeacher
from tests.pictures import encode, photo
from tests.pipeline import worlds


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("sheet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        build(worlds.settings(root / "data", worlds.coco_folder(root / "input", 20)), LocalRunner())
    return Dataset.open(str(root / "data"))


def _sample(image: bytes, caption: str = "a ball", concept: str = "ball") -> Sample:
    pair = {"concept": concept, "probability": 0.5, "box_xyxy_norm": [0.1, 0.2, 0.8, 0.9]}
    meta = {"source_key": "key.jpg", "captions": [caption], "n_pairs": 1, "pairs": [pair]}
    return Sample("key", "jpg", image, meta, {})


def test_the_sheet_has_a_tile_a_sample(dataset: Dataset):
    sheet = Image.open(io.BytesIO(contact_sheet.draw(dataset, 6, columns=4)))
    height = contact_sheet.TILE_HEIGHT + contact_sheet.CAPTION_HEIGHT
    assert sheet.size == (4 * contact_sheet.TILE_WIDTH, 2 * height)
    assert contact_sheet.draw(dataset, 6, columns=4) == contact_sheet.draw(dataset, 6, columns=4)


def test_only_the_chosen_samples_are_read(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    """No shard is read whole: one range and one index for each of two shards."""
    asked: list[tuple[str, int | None, int | None]] = []
    real = storage.read_bytes

    def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
        asked.append((url.rsplit("/", 1)[-1].rsplit(".", 1)[-1], start, end))
        return real(url, start, end)

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    assert len(list(read(dataset, spread(dataset.shards, 2)))) == 2
    assert sorted(kind for kind, _, _ in asked) == ["parquet", "parquet", "tar", "tar"]
    assert all(end is not None for kind, _, end in asked if kind == "tar")


def test_ranges_give_what_whole_shards_give(dataset: Dataset):
    whole = {sample.key: sample for sample in dataset.samples()}
    chosen = list(read(dataset, spread(dataset.shards, 100)))
    assert {sample.key for sample in chosen} == set(whole)
    for sample in chosen:
        assert sample.image == whole[sample.key].image
        assert sample.meta == whole[sample.key].meta
        assert np.array_equal(sample.arrays["topk_ids"], whole[sample.key].arrays["topk_ids"])


@pytest.mark.parametrize("image", [b"", b"no image", encode(photo())[:200]])
def test_an_image_that_cannot_be_decoded_gets_an_empty_tile(image: bytes):
    tile = contact_sheet.tile(_sample(image))
    assert tile.size == (contact_sheet.TILE_WIDTH, contact_sheet.TILE_HEIGHT + contact_sheet.CAPTION_HEIGHT)
    assert tile.getpixel((200, 250)) == (238, 238, 238)


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "two\nlines\x1b[31m", "\ud800", "猫と犬 🐈", "\u202eright to left"]
)
def test_any_text_can_be_drawn(text: str):
    image = encode(photo(400, 300))
    plain, odd = contact_sheet.tile(_sample(image)), contact_sheet.tile(_sample(image, text, text))
    assert odd.size == plain.size
    below = (0, contact_sheet.TILE_HEIGHT + 20, contact_sheet.TILE_WIDTH, odd.height)
    assert odd.crop(below).tobytes() == plain.crop(below).tobytes()  # the caption keeps to its line


def test_a_pair_of_each_concept_is_drawn_large_ones_first():
    box = {"small": [0, 0, 0.1, 0.1], "large": [0, 0, 0.9, 0.9], "middle": [0, 0, 0.5, 0.5]}
    pairs = [
        {"concept": c, "box_xyxy_norm": box[size]}
        for c, size in (("cat", "small"), ("dog", "large"), ("cat", "large"), ("cow", "middle"))
    ]
    shown = contact_sheet.shown_pairs(pairs)
    assert [p["concept"] for p in shown] == ["dog", "cow", "cat"]
    assert shown[2]["box_xyxy_norm"] == box["small"]


def test_fewer_than_one_sample_is_refused(dataset: Dataset):
    with pytest.raises(ValueError, match="n: must be at least 1"):
        contact_sheet.draw(dataset, 0)


def test_an_empty_dataset_gives_an_error_and_no_picture(dataset: Dataset):
    with pytest.raises(ValueError, match="holds no samples"):
        contact_sheet.draw(dataclasses.replace(dataset, shards=()), 3)


def test_the_command_writes_the_picture(dataset: Dataset, tmp_path: Path, capsys):
    from jobs import cli

    assert cli.main(["view", dataset.url, "--out", str(tmp_path / "pairs.png"), "--n", "3"]) == 0
    assert str(tmp_path / "pairs.png") in capsys.readouterr().out
    assert Image.open(tmp_path / "pairs.png").width == 3 * contact_sheet.TILE_WIDTH
