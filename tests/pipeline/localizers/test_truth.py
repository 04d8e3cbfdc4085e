"""The `ground-truth` localizer."""

import json

import numpy as np
import pytest

from pipeline import localizers
from pipeline.localizers.settings import LocalizerSettings
from world import scenes

IMAGE = np.zeros((10, 20, 3), np.uint8)


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "instances.json"
    data = {
        "images": [
            {"id": 7, "file_name": "000007.jpg", "width": 20, "height": 10},
            {"id": 8, "file_name": "sub/000008.jpg", "width": 20, "height": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 0, "category_id": 1},
            {"id": 2, "image_id": 7, "bbox": [10, 5, 10, 5], "iscrowd": 0, "category_id": 1},
            {"id": 3, "image_id": 7, "bbox": [0, 0, 20, 10], "iscrowd": 1, "category_id": 1},
            {"id": 4, "image_id": 7, "bbox": [3, 3, 0, 5], "iscrowd": 0, "category_id": 1},
        ],
    }
    path.write_text(json.dumps(data))
    return str(path)


@pytest.mark.parametrize("key", ["000007.jpg", "000007", "7", "coco/000007.jpg"])
def test_boxes_are_found_by_source_key_largest_first(truth, key):
    localizer = localizers.load(LocalizerSettings(kind="ground-truth", truth=truth))
    (found,) = localizer([IMAGE], [key])
    np.testing.assert_allclose(found.boxes_xyxy_norm, [[0.5, 0.5, 1, 1], [0, 0, 0.25, 0.5]])
    assert found.objectness.tolist() == [10.0, 10.0]


def test_an_image_without_objects_gets_the_whole_image(truth):
    localizer = localizers.load(LocalizerSettings(kind="ground-truth", truth=truth))
    (found,) = localizer([IMAGE], ["sub/000008.jpg"])
    assert found.boxes_xyxy_norm.tolist() == [[0, 0, 1, 1]]


def test_unknown_and_missing_keys_are_errors(truth):
    localizer = localizers.load(LocalizerSettings(kind="ground-truth", truth=truth))
    with pytest.raises(ValueError, match="'nine'"):
        localizer([IMAGE], ["nine"])
    with pytest.raises(ValueError, match="source key"):
        localizer([IMAGE])


def test_other_localizers_take_keys_and_ignore_them():
    grid = localizers.load(LocalizerSettings(kind="grid"))
    assert np.array_equal(grid([IMAGE], ["a"])[0].objectness, grid([IMAGE])[0].objectness)


def test_the_fingerprint_follows_the_truth(truth, tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    first = localizers.describe(LocalizerSettings(kind="ground-truth", truth=truth))
    second = localizers.describe(LocalizerSettings(kind="ground-truth", truth=str(other)))
    assert first != second


def test_synthetic_scenes_know_their_boxes():
    localizer = localizers.load(LocalizerSettings(kind="ground-truth"))
    (found,) = localizer([IMAGE], ["shapes-3-00000012"])
    assert np.array_equal(found.boxes_xyxy_norm, scenes.truth(3, 12)[0])
    with pytest.raises(ValueError, match=r"localizer\.truth"):
        localizer([IMAGE], ["000007.jpg"])


def test_a_short_name_of_two_images_means_neither(tmp_path):
    """Two folders number their images alike: only whole names tell them apart."""
    images = [
        {"id": i, "file_name": f"{folder}/1.jpg", "width": 10, "height": 10}
        for i, folder in ((70, "left"), (80, "right"))
    ]
    boxes = [{"id": i, "image_id": i, "bbox": [0, 0, i / 10, 5]} for i in (70, 80)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes}))
    localizer = localizers.load(LocalizerSettings(kind="ground-truth", truth=str(path)))
    (left,) = localizer([IMAGE], ["left/1.jpg"])
    (right,) = localizer([IMAGE], ["right/1.jpg"])
    assert (left.boxes_xyxy_norm[0, 2], right.boxes_xyxy_norm[0, 2]) == pytest.approx((0.7, 0.8))
    with pytest.raises(ValueError, match=r"'1\.jpg'"):
        localizer([IMAGE], ["1.jpg"])


def test_a_file_that_is_not_coco_is_named(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"instances\.json"):
        localizers.load(LocalizerSettings(kind="ground-truth", truth=str(path)))
