"""Pair precision, recall and calibration by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics import pairs
from evaluation.metrics.pairs import Objects, Regions


def _table() -> pairs.Table:
    """Two images. Object 7 has a right pair twice, object 8 a wrong one, object 9 none; one region is on nothing."""
    truth = np.array([[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], np.float32)
    regions = Regions(
        boxes=np.array(
            [[0, 0, 0.4, 0.38], [0, 0, 0.36, 0.4], [0.5, 0.5, 0.9, 0.9], [0.4, 0, 0.5, 0.1]], np.float32
        ),
        labels=np.array([7, 7, 7, 7]),
        probabilities=np.array([0.9, 0.6, 0.8, 0.7]),
        margins=np.array([0.85, 0.5, 0.6, 0.65]),
        kept=np.array([True, True, True, True]),
        mentioned=frozenset({7}),
    )
    lone = Regions(
        boxes=np.array([[0, 0, 0.4, 0.4]], np.float32),
        labels=np.array([9]),
        probabilities=np.array([0.05]),
        margins=np.array([0.0]),
        kept=np.array([False]),
        mentioned=frozenset(),
    )
    return pairs.compare(
        [regions, lone], [Objects(truth, np.array([7, 8])), Objects(truth[:1], np.array([9]))]
    )


def test_summary_by_hand():
    report = pairs.summary(_table())
    assert report["n_pairs"] == 4
    assert report["on_object"] == pytest.approx(3 / 4)
    assert report["precision"] == pytest.approx(2 / 3)
    assert report["precision_of_all"] == pytest.approx(2 / 4)
    assert report["recall"] == pytest.approx(1 / 3)  # two pairs of one object count once


def test_by_threshold():
    report = pairs.by_threshold(_table(), [0.0, 0.75])
    assert report["0"]["n_pairs"] == 5
    assert report["0"]["recall"] == pytest.approx(2 / 3)
    assert report["0.75"]["precision"] == pytest.approx(1 / 2)


def test_by_yield_ranks_by_probability_and_by_margin():
    row = pairs.by_yield(_table(), [0.4])["0.4"]  # two regions of five
    assert row["probability_precision_of_all"] == pytest.approx(
        1 / 2
    )  # 0.9 is right, 0.8 names the other object
    assert row["margin_precision_of_all"] == pytest.approx(1 / 2)  # 0.85 is right, 0.65 lies on nothing
    assert row["probability_precision"] == pytest.approx(1 / 2)
    assert (
        row["score_precision"] == row["probability_precision"]
    )  # where no score is given, it is the probability


def test_by_yield_ranks_by_the_score_where_there_is_one():
    truth = np.array([[0.0, 0.0, 0.4, 0.4]], np.float32)
    boxes = np.array([[0, 0, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9]], np.float32)
    likely = np.array([0.5, 0.9])
    r = Regions(boxes, np.array([7, 7]), likely, likely, likely > 0, frozenset(), np.array([0.4, 0.1]))
    row = pairs.by_yield(pairs.compare([r], [Objects(truth, np.array([7]))]), [0.5])["0.5"]
    assert (row["probability_precision_of_all"], row["score_precision_of_all"]) == (0, 1)
    assert (row["probability_recall"], row["score_recall"]) == (0, 1)


def test_by_group():
    report = pairs.by_group(_table())
    assert report["small"]["n_pairs"] == 1
    assert report["medium"]["n_pairs"] + report["large"]["n_pairs"] == 3
    assert report["object_in_caption"]["precision"] == 1.0
    assert report["object_not_in_caption"]["precision"] == 0.0


def test_a_name_that_the_pool_lacks_is_never_right():
    regions = Regions(
        np.array([[0, 0, 1, 1.0]]), np.array([-1]), np.ones(1), np.ones(1), np.ones(1, bool), frozenset()
    )
    table = pairs.compare([regions], [Objects(np.array([[0, 0, 1, 1.0]]), np.array([-1]))])
    assert pairs.summary(table)["precision"] == 0.0


def test_an_image_without_objects_or_regions():
    empty = Regions(
        np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), np.zeros(0), np.zeros(0, bool), frozenset()
    )
    table = pairs.compare([empty], [Objects(np.zeros((0, 4)), np.zeros(0, int))])
    assert np.isnan(pairs.summary(table)["precision"])


def test_calibration_of_a_calibrated_and_of_an_overconfident_labeller():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    right = rng.random(20_000) < p
    assert pairs.calibration(p, right)["ece"] < 0.02
    assert pairs.calibration(np.full(1000, 0.9), np.arange(1000) < 500)["ece"] == pytest.approx(0.4)
    brier = pairs.calibration(np.array([1.0, 0.0]), np.array([True, True]))["brier"]
    assert brier == pytest.approx(0.5)
