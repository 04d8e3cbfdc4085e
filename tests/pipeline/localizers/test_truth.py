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
