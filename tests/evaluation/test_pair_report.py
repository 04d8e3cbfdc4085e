"""The report of pairs: by hand, and where dataset and truth do not meet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation import pair_report, truth
from evaluation.settings import TruthSettings
from pipeline.build import build
from pipeline.dataset import Dataset, Sample
from pipeline.run_local import LocalRunner
from pipeline.scores import BELOW_SCORE, KEPT
from pipeline.settings import AlignSettings
from tests.fakes import ColorTeacher
from tests.pipeline import worlds

N_IMAGES = 15


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a COCO folder in `data`, and the truth about it in `instances.json`: one coloured square an image."""
    root = tmp_path_factory.mktemp("coco")
    source = worlds.coco_folder(root / "input", N_IMAGES)
    align = AlignSettings(policy="pool", tau=0.1, threshold=0.0, region_embeddings="fp16", pair_nms_iou=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        build(worlds.settings(root / "data", source, align=align), LocalRunner())
    (root / "instances.json").write_text(json.dumps(_instances()))
    return root


def _instances(prefix: str = "") -> dict:
    return {
        "images": [
            {"id": i, "file_name": f"{prefix}{i:03d}.jpg", "width": 40, "height": 30} for i in range(N_IMAGES)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i % 3, "bbox": [i % 10, 5, 20, 20]}
            for i in range(N_IMAGES)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate([*worlds.THINGS, "unicorn"])],
    }


def _truth(root: Path, name: str = "instances.json") -> truth.TruthSet:
    images = str(root / "input" / "images")
    return truth.load(TruthSettings("coco", images=images, instances=str(root / name)))


def test_a_coco_dataset_meets_its_coco_truth(world: Path):
    report = pair_report.pair_report(Dataset.open(str(world / "data")), _truth(world))
    assert report["n_images"] == report["n_objects"] == N_IMAGES
    assert report["names_in_pool"] == 0.75  # nobody speaks of unicorns
    assert report["policy"] == "pool"
    assert set(report["policies"]) == set(pair_report.POLICIES)
    assert 0 < report["proposals"]["recall50@10"] <= 1


def test_the_datasets_own_policy_gives_its_own_labels(world: Path):
    """Labels stored, and labels made anew from the stored embeddings, with the duplicates that `pair_nms_iou` removes."""
    report = pair_report.pair_report(Dataset.open(str(world / "data")), _truth(world))
    stored, again = report["pairs"]["all"], report["policies"]["pool"]["all"]
    assert again == pytest.approx(stored, abs=0.02, nan_ok=True)


def test_captions_help_where_colours_alone_are_told_apart(world: Path):
    policies = pair_report.pair_report(Dataset.open(str(world / "data")), _truth(world))["policies"]
    right = {name: policy["all"]["precision"] for name, policy in policies.items()}
    assert right["caption"] > right["pool"]


def test_keys_that_do_not_meet_are_shown_side_by_side(world: Path):
    (world / "elsewhere.json").write_text(json.dumps(_instances("sub/")))
    with pytest.raises(ValueError, match=r"share no source key.*'\d+\.jpg'.*'sub/000\.jpg'") as refused:
        pair_report.pair_report(Dataset.open(str(world / "data")), _truth(world, "elsewhere.json"))
    assert "\n" not in str(refused.value)


def test_without_stored_embeddings_there_are_no_other_policies(world: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
    source = worlds.coco_folder(tmp_path / "input", 6)
    build(worlds.settings(tmp_path / "data", source), LocalRunner())
    report = pair_report.pair_report(Dataset.open(str(tmp_path / "data")), _truth(world))
    assert "policies" not in report
    assert report["n_images"] == 6


def test_stored_regions_of_one_concept_have_their_probability_as_margin():
    arrays = {
        "boxes_xyxy_norm": np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]], np.float32),
        "topk_ids": np.array([[3], [4]], np.uint16),
        "topk_probs": np.array([[0.75], [0.5]], np.float16),
        "kept": np.array([KEPT, BELOW_SCORE], np.uint8),
        "scores": np.array([0.75, 0.5], np.float16),
    }
    found = pair_report.stored_regions(Sample("key", "jpg", b"", {"mentioned": [3]}, arrays))
    assert found.labels.tolist() == [3, 4]
    assert found.margins.tolist() == [0.75, 0.5]
    assert found.kept.tolist() == [True, False]
    assert found.mentioned == {3}
