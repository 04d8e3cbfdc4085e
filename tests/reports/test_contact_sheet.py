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


def test_labels_stay_inside_and_cover_no_other():
    """Six lines of 17 pixels find a place wherever five others lie in 187 pixels."""
    rng = np.random.default_rng(0)
    for width, height in ((400, 300), (100, 300), (400, 190), (300, 300)) * 20:
        corners = np.sort(rng.random((6, 2, 2)), axis=1).reshape(6, 4)
        boxes = [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in corners]
        widths = rng.uniform(30, 250, 6)
        places = contact_sheet.label_places(boxes, widths, 17, (width, height))
        assert all(0 <= x0 < x1 <= width + 1e-9 and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in places)
        assert [x1 - x0 for x0, _, x1, _ in places] == pytest.approx(np.minimum(widths, width))
        for i, a in enumerate(places):
            assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in places[:i])


def test_a_label_with_room_is_never_shortened(monkeypatch: pytest.MonkeyPatch):
    drawn, shortened = [], contact_sheet._shortened
    monkeypatch.setattr(
        contact_sheet, "_shortened", lambda *arguments: drawn.append(shortened(*arguments)) or drawn[-1]
    )
    sample = _sample(encode(photo(160, 160)), concept="bell")
    for left in np.linspace(0, 0.6, 40):  # places between pixels
        sample.meta["pairs"][0]["box_xyxy_norm"] = [float(left), 0.31, float(left) + 0.2, 0.6]
        contact_sheet.tile(sample)
    assert set(drawn) == {"bell 0.50"}


def test_a_label_that_no_place_is_left_for_lies_in_its_corner():
    places = contact_sheet.label_places([(0, 0, 9, 9)] * 3, [90.0] * 3, 17, (50, 20))
    assert places == [(0, 0, 50, 17)] * 3


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (60, 400), (12, 300)])
def test_nothing_is_drawn_beside_the_picture(width: int, height: int):
    """A long name on a box at the right edge."""
    sample = _sample(encode(photo(width, height)), concept="a very long name of a thing")
    sample.meta["pairs"][0]["box_xyxy_norm"] = [0.9, 0.0, 1.0, 0.5]
    tile = np.asarray(contact_sheet.tile(sample))
    shown = contact_sheet.fitted(sample.image, contact_sheet.TILE_WIDTH, contact_sheet.TILE_HEIGHT)
    assert (tile[: shown.height, shown.width :] == 255).all()
    assert (tile[: shown.height, : shown.width] != np.asarray(shown)).any()


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
