"""A model over a truth set: what is embedded in which order, and the figures that follow."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from evaluation import model_report
from evaluation.settings import DetectionSettings
from evaluation.truth import TrueImage, TruthSet
from pipeline.localizers.grid import Grid
from pipeline.teachers.settings import TeacherSettings
from tests.fakes import DIM, ColorTeacher

NAMES = ["red", "green", "blue"]


def _image(key: str, left: int, right: int) -> TrueImage:
    """Two halves in the colours of two classes; a caption each."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, left], pixels[:, 20:, right] = 255, 255
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32)
    captions = [f"{NAMES[left]} beside {NAMES[right]}", f"{NAMES[right]}"]
    return TrueImage(key, partial(np.copy, pixels), captions, boxes, np.array([left, right]))


@pytest.fixture
def truth() -> TruthSet:
    novel = np.array([False, False, True])
    return TruthSet(NAMES, novel, [_image("a", 0, 1), _image("b", 1, 2), _image("c", 2, 0)])


@pytest.fixture
def embedded(truth: TruthSet) -> model_report.Embedded:
    return model_report.embed(ColorTeacher(), truth, ["a {}"], batch_images=2)


def test_every_region_image_and_caption_is_embedded_in_order(truth, embedded):
    assert embedded.labels.tolist() == [0, 1, 1, 2, 2, 0]
    assert embedded.image_of_region.tolist() == [0, 0, 1, 1, 2, 2]
    assert embedded.image_of_caption.tolist() == [0, 0, 1, 1, 2, 2]
    assert embedded.regions.shape == (6, DIM)
    assert embedded.images.shape == (3, DIM)
    assert embedded.classes.shape == (3, DIM)
    alone = ColorTeacher().encode_regions([truth.images[1].load()], [truth.images[1].boxes_xyxy_norm])[0]
    assert torch.equal(embedded.regions[2:4], alone)


def test_texts_may_come_from_another_model(truth, embedded):
    again = model_report.embed(ColorTeacher(), truth, [], texts_of=embedded)
    assert again.captions is embedded.captions
    assert again.classes is embedded.classes


def test_a_teacher_that_sees_colour_names_colours(truth, embedded):
    report = model_report.zero_shot_report(embedded, truth, tau=0.1)
    assert report["n_regions"] == 6
    assert report["regions"]["all"]["top1"] == 1.0
    assert report["regions"]["novel"]["top1"] == 1.0
    assert report["scenes"]["precision_at_n"] == 1.0
    assert report["detection_on_true_boxes"]["all"]["ap50"] == pytest.approx(1.0)
    assert report["retrieval"]["text_to_image_r5"] == 1.0


def test_wrong_labels_are_wrong(truth, embedded):
    """The control: a report that cannot fail says nothing."""
    turned = TruthSet(
        truth.names,
        truth.novel,
        [TrueImage(i.key, i.load, i.captions, i.boxes_xyxy_norm, (i.labels + 1) % 3) for i in truth.images],
    )
    wrong = model_report.embed(ColorTeacher(), turned, ["a {}"])
    assert model_report.zero_shot_report(wrong, turned, tau=0.1)["regions"]["all"]["top1"] == 0.0


def test_a_set_without_captions_has_no_retrieval(truth):
    silent = TruthSet(
        truth.names,
        truth.novel,
        [TrueImage(i.key, i.load, [], i.boxes_xyxy_norm, i.labels) for i in truth.images],
    )
    embedded = model_report.embed(ColorTeacher(), silent, ["a {}"])
    assert "retrieval" not in model_report.zero_shot_report(embedded, silent, tau=0.1)


def test_detection_on_proposals_drops_none_by_the_sigmoid(truth, embedded):
    """The grid's logits are 0 and below, so RegionCLIP's fusion, which drops negative logits, keeps one box."""
    found = model_report.detection_on_proposals(
        ColorTeacher(), Grid(14), truth, embedded.classes, 0.1, DetectionSettings(), batch_images=2
    )
    assert found["sqrt-sigmoid"]["all"]["ap50"] > found["sqrt-logit"]["all"]["ap50"]


def test_only_a_teacher_with_an_image_tower_takes_a_student(monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
    assert model_report.load_student(TeacherSettings(), None).dim == DIM
    (tmp_path / "settings.json").write_text('{"student": {"encoder": {"kind": "photo"}}}')
    with pytest.raises(
        ValueError, match=r"began as the teacher 'photo', not 'shapes'; give --teacher.kind photo"
    ):
        model_report.load_student(TeacherSettings(), str(tmp_path / "student.safetensors"))
    with pytest.raises(ValueError, match="no image tower that a student could replace"):
        model_report.load_student(TeacherSettings(), "student.safetensors")
