"""Truth sets: scenes and COCO's format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from evaluation import coco_names, truth
from evaluation.settings import TruthSettings
from pipeline.sources.settings import SourceSettings
from pipeline.sources.shapes import ShapesSource
from world import scenes


def test_scenes_are_the_sources_own():
    """Keys and pixels agree with what `source.kind: shapes` gives the pipeline."""
    known = truth.shapes_truth(3, 0, 4)
    source = ShapesSource(SourceSettings(kind="shapes", seed=3, count=4))
    rows = list(source.index())
    assert [image.key for image in known.images] == [row["source_key"] for row in rows]
    assert scenes.encode_png(known.images[2].load()) == source.read(rows[2])
    assert [known.names[i] for i in known.images[1].labels] == scenes.truth(3, 1)[1]
    assert known.novel.sum() == len(scenes.NOVEL_KINDS)


def _coco(folder: Path) -> TruthSettings:
    Image.new("RGB", (40, 20)).save(folder / "a.png")
    annotations = [
        {"image_id": 5, "category_id": 17, "bbox": [10, 5, 20, 10], "iscrowd": 0},
        {"image_id": 5, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        {"image_id": 5, "category_id": 1, "bbox": [3, 3, 0, 2], "iscrowd": 0},
        {"image_id": 5, "category_id": 13, "bbox": [0, 0, 5, 5], "iscrowd": 0},
    ]
    names = {1: "person", 13: "stop sign", 17: "cat"}
    data = {
        "images": [
            {"id": 5, "file_name": "a.png", "width": 40, "height": 20},
            {"id": 6, "file_name": "none.png", "width": 1, "height": 1},
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in names.items()],
    }
    (folder / "instances.json").write_text(json.dumps(data))
    (folder / "captions.json").write_text(json.dumps({"annotations": [{"image_id": 5, "caption": "a cat"}]}))
    return TruthSettings("coco", images=str(folder), instances=str(folder / "instances.json"))


def test_coco_boxes_and_split(tmp_path: Path):
    settings = _coco(tmp_path)
    known = truth.load(settings)
    assert known.names == ["person", "stop sign", "cat"]
    assert known.novel.tolist() == [False, False, True]
    (image,) = known.images
    assert image.labels.tolist() == [2, 1]
    assert image.boxes_xyxy_norm[0] == pytest.approx([0.25, 0.25, 0.75, 0.75])
    assert image.load().shape == (20, 40, 3)


def test_the_open_vocabulary_split_leaves_fifteen_names_out(tmp_path: Path):  # parity 55
    assert (len(coco_names.BASE), len(coco_names.NOVEL)) == (48, 17)
    assert not coco_names.BASE & coco_names.NOVEL
    base = _coco(tmp_path)
    known = truth.load(TruthSettings("coco", images=base.images, instances=base.instances, classes="ovr"))
    assert known.names == ["person", "cat"]


def test_captions_can_exclude_images(tmp_path: Path):
    base = _coco(tmp_path)
    captions = str(tmp_path / "captions.json")
    with_text = TruthSettings("coco", images=base.images, instances=base.instances, captions=captions)
    assert truth.load(with_text).images[0].captions == ["a cat"]
    rest = TruthSettings(
        "coco", images=base.images, instances=base.instances, captions=captions, uncaptioned=True
    )
    assert truth.load(rest).images == []


def test_rare_classes_of_lvis_are_novel(tmp_path: Path):  # parity 55
    data = {
        "images": [{"id": 1, "coco_url": "x/y/000.jpg", "width": 10, "height": 10}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5]}],
        "categories": [{"id": 1, "name": "a", "frequency": "f"}, {"id": 2, "name": "b_c", "frequency": "r"}],
    }
    (tmp_path / "lvis.json").write_text(json.dumps(data))
    known = truth.load(TruthSettings("coco", images=str(tmp_path), instances=str(tmp_path / "lvis.json")))
    assert known.novel.tolist() == [False, True]
    assert known.names[1] == "b c"


def test_missing_settings_are_refused():
    with pytest.raises(ValueError, match=r"truth\.images"):
        TruthSettings("coco")
