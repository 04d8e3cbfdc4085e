"""Pair scores, region rules and reasons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scores import (
    AREA,
    ASPECT,
    BELOW_SCORE,
    DUPLICATE,
    KEPT,
    NOT_AGREED,
    NOTHING_NAMED,
    REASONS,
    TOO_SMALL,
    Objectness,
    RegionRules,
    agreed,
    duplicates,
    fit_objectness,
    keep_reasons,
    overlap,
    pair_scores,
)

PLAIN = Objectness()


def test_every_reason_has_a_name():
    codes = (KEPT, BELOW_SCORE, TOO_SMALL, AREA, ASPECT, DUPLICATE, NOTHING_NAMED, NOT_AGREED)
    assert codes == tuple(range(8))
    assert len(REASONS) == 8


def test_a_likely_object_outranks_a_likely_name_on_nothing():
    probabilities, objectness = np.array([0.9, 0.6]), np.array([-3.0, 1.0])
    by_probability = pair_scores(probabilities, objectness, "probability", PLAIN)
    by_both = pair_scores(probabilities, objectness, "objectness", PLAIN)
    assert by_probability.argmax() == 0
    assert by_both.argmax() == 1
    np.testing.assert_allclose(by_both, [0.9 / (1 + np.exp(3)), 0.6 / (1 + np.exp(-1))], rtol=1e-5)


def test_background_lowers_a_score_and_never_leaves_zero_to_one():
    p, o, background = np.array([0.5, 0.5, 1.0]), np.array([40.0, 40.0, -900.0]), np.array([0.0, 0.75, 1.0])
    scores = pair_scores(p, o, "objectness", PLAIN, background=background)
    np.testing.assert_allclose(scores, [0.5, 0.25, 0.0], atol=1e-4)
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match=r"align.score"):
        pair_scores(np.ones(1), np.ones(1), "margin", PLAIN)


def test_the_calibration_finds_the_truth_it_was_drawn_from():
    rng = np.random.default_rng(0)
    raw = rng.normal(-1, 2, 40_000)
    on_object = rng.random(len(raw)) < 1 / (1 + np.exp(-(0.7 * raw + 0.9)))
    found = fit_objectness(raw, on_object)
    assert found.scale == pytest.approx(0.7, abs=0.03)
    assert found.offset == pytest.approx(0.9, abs=0.04)


def test_the_calibration_of_separable_classes_is_finite_and_of_one_class_refused():
    found = fit_objectness(np.array([-1.0, -2.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert np.isfinite([found.scale, found.offset]).all()
    assert found.scale > 0
    with pytest.raises(ValueError, match="regions on objects"):
        fit_objectness(np.array([1.0, 2.0]), np.array([True, True]))


def test_rules_name_the_first_thing_that_is_wrong():
    boxes = np.array(
        [[0, 0, 0.5, 0.5], [0, 0, 0.04, 0.5], [0, 0, 0.1, 0.1], [0, 0, 1, 1], [0, 0, 0.9, 0.2]], np.float32
    )
    rules = RegionRules(min_side_px=9, min_area=0.02, max_area=0.9, max_aspect=3)
    assert rules.reasons(boxes, 200, 100).tolist() == [KEPT, TOO_SMALL, AREA, AREA, ASPECT]


def test_aspect_is_measured_in_pixels_and_limits_are_inside():
    rules = RegionRules(max_aspect=2)
    square = np.array([[0, 0, 0.5, 1.0]], np.float32)
    assert rules.reasons(square, 200, 100).tolist() == [KEPT]
    assert rules.reasons(square, 100, 200).tolist() == [ASPECT]
    third = np.array(
        [[0, 0, 1 / 3, 1 / 3]], np.float32
    )  # 1 / 3 is no float32: a limit lets through what is at it
    assert RegionRules(min_side_px=100, min_area=1 / 9).reasons(third, 300, 300).tolist() == [KEPT]
    assert RegionRules(max_area=1 / 9).reasons(third, 300, 300).tolist() == [KEPT]


def test_rules_of_no_region():
    assert RegionRules(min_side_px=4).reasons(np.zeros((0, 4), np.float32), 10, 10).tolist() == []
    assert not RegionRules().any


def test_a_region_that_breaks_a_rule_suppresses_nothing():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.9, 0.9], [0, 0, 0.85, 0.9], [0, 0, 0.8, 0.9]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7, 0.05]), np.array([3, 3, 3, 3])
    by_rules = np.array([AREA, KEPT, KEPT, KEPT], np.uint8)
    found = keep_reasons(scores, labels, boxes, 0.1, by_rules, duplicate_iou=0.5)
    assert found.tolist() == [AREA, KEPT, DUPLICATE, BELOW_SCORE]
    assert found.dtype == np.uint8


def test_where_nothing_is_named_nothing_is_kept():
    found = keep_reasons(np.ones(2), np.zeros(2, int), None, 0.1, nothing_named=True)
    assert found.tolist() == [NOTHING_NAMED] * 2


def test_the_threshold_is_strict_and_nan_is_not_kept():
    found = keep_reasons(np.array([0.5, 0.5001, np.nan]), np.zeros(3, int), None, 0.5)
    assert found.tolist() == [BELOW_SCORE, KEPT, BELOW_SCORE]


def test_duplicates_of_one_label_leave_the_best_scored():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.95], [0, 0, 0.1, 0.1]], np.float32)
    labels, kept = np.array([5, 5, 6, 5]), np.ones(4, bool)
    scores = np.array([0.3, 0.6, 0.2, 0.5], np.float32)
    assert duplicates(boxes, labels, scores, kept, 0.5).tolist() == [True, False, False, False]
    assert not duplicates(boxes, labels, scores, kept, 0.95).any()
    kept[1] = False  # what is no pair suppresses nothing
    assert not duplicates(boxes, labels, scores, kept, 0.5).any()


@given(
    corners=st.lists(st.tuples(*[st.integers(0, 6)] * 4), max_size=6),
    labels=st.lists(st.integers(0, 1), min_size=6, max_size=6),
    scores=st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
@settings(max_examples=80, deadline=None)
def test_duplicates_equal_greedy_suppression_in_plain_python(corners, labels, scores):
    boxes = np.array([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in corners], float)
    n = len(boxes)
    labels, scores = np.array(labels[:n], int), np.array(scores[:n], float)
    found = duplicates(boxes.reshape(-1, 4), labels, scores, np.ones(n, bool), 0.4)
    ious, alive = overlap(boxes.reshape(-1, 4)), []
    for i in sorted(range(n), key=lambda i: (-scores[i], i)):
        if all(labels[i] != labels[j] or ious[i, j] <= 0.4 for j in alive):
            alive.append(i)
    assert np.flatnonzero(~found).tolist() == sorted(alive)


def test_a_pair_is_agreed_by_one_of_the_same_concept_that_overlaps_enough():
    box, half, away = [0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.2], [0.6, 0.6, 0.9, 0.9]
    boxes, labels = np.array([box, box, half, away], np.float32), np.array([3, 4, 3, 3], np.uint16)
    others, theirs = np.array([box, half], np.float32), np.array([3, 4], np.uint32)
    assert agreed(boxes, labels, others, theirs, 0.49).tolist() == [True, True, True, False]
    assert agreed(boxes, labels, others, theirs, 0.51).tolist() == [True, False, False, False]
    none = np.zeros((0, 4), np.float32)
    assert agreed(boxes, labels, none, theirs[:0], 0.5).tolist() == [False] * 4
    assert agreed(none, labels[:0], others, theirs, 0.5).shape == (0,)
