"""Detections and AP: by hand, against a slow twin, and RegionCLIP's rules by number."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.detection import (
    Detections,
    TrueBoxes,
    coco_ap,
    detect,
    fuse,
    propose,
)
from evaluation.settings import DetectionSettings


@pytest.mark.parity(53)
def test_detect_thresholds_then_suppresses_within_a_class_only():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([[0.9, 0.2], [0.8, 0.3], [0.0005, 0.5]])
    found = detect(boxes, scores, DetectionSettings())
    kept = {
        (int(label), round(float(score), 4)) for label, score in zip(found.labels, found.scores, strict=True)
    }
    assert kept == {(0, 0.9), (1, 0.3), (1, 0.5)}
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert len(detect(boxes, scores, DetectionSettings(max_detections=2)).scores) == 2


@pytest.mark.parity(54)
def test_fusion_drops_negative_logits_only_in_parity_mode():
    scores, logits = np.array([[0.5], [0.5]]), np.array([4.0, -1.0])
    assert fuse(scores, logits, "sqrt-logit")[:, 0] == pytest.approx([np.sqrt(2.0), 0.0])
    sigmoid = 1 / (1 + np.exp(-logits))
    assert fuse(scores, logits, "sqrt-sigmoid")[:, 0] == pytest.approx(np.sqrt(0.5 * sigmoid))
    assert (fuse(scores, logits, "none") == scores).all()


@pytest.mark.parity(54)
def test_proposals_are_suppressed_and_cut():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 96], [0, 0, 50, 50]], np.float32)
    assert propose(boxes, np.array([1.0, 2.0, 0.0]), DetectionSettings()).tolist() == [1, 2]
    assert propose(boxes, np.array([1.0, 2.0, 0.0]), DetectionSettings(max_proposals=1)).tolist() == [1]


def _scene() -> tuple[list[TrueBoxes], list[Detections]]:
    truths = [
        TrueBoxes(np.array([[0, 0, 10, 10], [20, 20, 40, 40.0]]), np.array([0, 1]), 100, 100),
        TrueBoxes(np.array([[50, 50, 80, 80.0]]), np.array([0]), 100, 100),
    ]
    found = [
        Detections(
            np.array([[0, 0, 10, 10], [60, 60, 70, 70.0]]),
            np.array([0, 0]),
            np.array([0.9, 0.95], np.float32),
        ),
        Detections(np.array([[50, 50, 80, 78.0]]), np.array([0]), np.array([0.5], np.float32)),
    ]
    return truths, found


@pytest.mark.parity(55)
def test_ap50_by_hand_and_by_split():
    truths, found = _scene()
    result = coco_ap(truths, found, ["star", "moon", "unused"], np.array([False, True, True]))
    # star: false positive first, then two hits: precision 2/3 at every recall after interpolation.
    assert result["base"]["ap50"] == pytest.approx(2 / 3, abs=0.01)
    assert result["novel"]["ap50"] == 0.0
    assert result["all"]["ap50"] == pytest.approx(1 / 3, abs=0.01)


def test_perfect_detections_score_one_and_swapped_boxes_do_not():
    truths, _ = _scene()
    perfect = [Detections(t.boxes, t.labels, np.ones(len(t.labels), np.float32)) for t in truths]
    assert coco_ap(truths, perfect, ["star", "moon"], np.zeros(2, bool))["all"]["ap"] == pytest.approx(1.0)
    moved = [TrueBoxes(t.boxes + np.array([0, 15, 0, 15]), t.labels, 100, 100) for t in truths]
    assert coco_ap(moved, perfect, ["star", "moon"], np.zeros(2, bool))["all"]["ap50"] < 0.5


def test_no_detections_score_zero():
    truths, _ = _scene()
    empty = [Detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, np.float32)) for _ in truths]
    assert coco_ap(truths, empty, ["star", "moon"], np.zeros(2, bool))["all"]["ap50"] == 0.0
