"""Truth sets: scenes and COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation import truth
from evaluation.settings import TruthSettings
from pipeline.sources.settings import SourceSettings
from pipeline.sources.shapes import ShapesSource
from world import scenes


def test_scenes_are_the_sources_own():
    """Keys and pixels agree with what `source.kind: shapes` gives the pipeline."""
    known = truth.shapes_truth(3, 0, 4)
    source = ShapesSource(SourceSettings(kind="shapes", seed=3, count=4))
    rows = [row for unit in source.units() for row in source.index(unit)]
    assert [image.key for image in known.images] == [row["source_key"] for row in rows]
    assert scenes.encode_png(known.images[2].load()) == source.read(rows[2])
    assert [known.names[i] for i in known.images[1].labels] == scenes.truth(3, 1)[1]
    assert known.novel.sum() == len(scenes.NOVEL_KINDS)


NAMES = {1: "person", 13: "stop sign", 17: "cat"}
OBJECTS = [
    {"image_id": 5, "category_id": 17, "bbox": [10, 5, 20, 10], "iscrowd": 0},
    {"image_id": 5, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1},
    {"image_id": 5, "category_id": 1, "bbox": [3, 3, 0, 2], "iscrowd": 0},
    {"image_id": 5, "category_id": 1, "bbox": [50, 3, 5, 2], "iscrowd": 0},
    {"image_id": 5, "category_id": 99, "bbox": [3, 3, 5, 2], "iscrowd": 0},
    {"image_id": 5, "category_id": 13, "bbox": [0, 0, 5, 5], "iscrowd": 0},
    {"image_id": 7, "category_id": 17, "bbox": [0, 0, 5, 5], "iscrowd": 0},
]


def _coco(folder: Path, **changes: Any) -> TruthSettings:
    """One image with two objects besides a crowd, a box without area, one outside and one of no class; two others."""
    Image.new("RGB", (40, 20)).save(folder / "a.png")
    data = {
        "images": [
            {"id": 5, "file_name": "a.png", "width": 40, "height": 20},
            {"id": 6, "file_name": "without_objects.png", "width": 1, "height": 1},
            {"id": 7, "file_name": "of_unknown_size.png"},
        ],
        "annotations": OBJECTS,
        "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
    }
    (folder / "instances.json").write_text(json.dumps(data))
    (folder / "captions.json").write_text(json.dumps({"annotations": [{"image_id": 5, "caption": "a cat"}]}))
    paths = {"images": str(folder), "instances": str(folder / "instances.json")}
    return TruthSettings("coco", **{**paths, **changes})


def test_coco_boxes_and_split(tmp_path: Path):
    settings = _coco(tmp_path)
    known = truth.load(settings)
    assert known.names == ["person", "stop sign", "cat"]
    assert known.novel.tolist() == [False, False, True]
    (image,) = known.images
    assert image.labels.tolist() == [2, 1]
    assert image.boxes_xyxy_norm[0] == pytest.approx([0.25, 0.25, 0.75, 0.75])
    assert image.load().shape == (20, 40, 3)


@pytest.mark.parity(55)
def test_the_open_vocabulary_split_leaves_names_out(tmp_path: Path):
    assert truth.load(_coco(tmp_path, classes="ovr")).names == ["person", "cat"]


def test_a_key_is_the_source_key_of_a_coco_dataset(tmp_path: Path):
    (image,) = truth.load(_coco(tmp_path)).images
    assert image.key == "a.png"


def test_captions_can_exclude_images(tmp_path: Path):
    captions = str(tmp_path / "captions.json")
    assert truth.load(_coco(tmp_path, captions=captions)).images[0].captions == ["a cat"]
    with pytest.raises(ValueError, match="no image with an object"):
        truth.load(_coco(tmp_path, captions=captions, uncaptioned=True))


@pytest.mark.parity(55)
def test_rare_classes_of_lvis_are_novel(tmp_path: Path):
    data = {
        "images": [{"id": 1, "coco_url": "x/y/000.jpg", "width": 10, "height": 10}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5]}],
        "categories": [{"id": 1, "name": "a", "frequency": "f"}, {"id": 2, "name": "b_c", "frequency": "r"}],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(data))
    known = truth.load(TruthSettings("coco", images=str(tmp_path), instances=str(tmp_path / "lvis.json")))
    assert known.novel.tolist() == [False, True]
    assert known.names[1] == "b c"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "coco"}, r"truth\.images and truth\.instances"),
        ({"uncaptioned": True}, r"truth\.captions"),
        ({"count": -1}, r"truth\.count"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        TruthSettings(**changes)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"images": 3}', '"text"'])
def test_a_file_that_is_not_coco_is_named(tmp_path: Path, content: str):
    settings = _coco(tmp_path)
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(ValueError, match=r"instances\.json"):
        truth.load(settings)


def test_an_image_that_is_listed_and_not_there_is_named_with_what_to_do(tmp_path: Path):
    known = truth.load(_coco(tmp_path))
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png is not there: .* lists the folder's own images"):
        known.images[0].load()


def test_a_set_in_memory_reads_each_image_once(tmp_path: Path):
    known = truth.in_memory(truth.load(_coco(tmp_path)))
    (tmp_path / "a.png").unlink()
    assert known.images[0].load().shape == (20, 40, 3)
