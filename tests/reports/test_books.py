"""Figures of the whole: concepts summed over parts, and shards unlike the others."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset import records
from reports.books import pairs_of, unlike_shards
from reports.histograms import histogram
from reports.look import relative_entropy


def test_pairs_of_a_concept_are_summed_over_parts():
    empty = records.MANIFEST.empty_table().select(["concept_ids", "concept_counts"])
    rows = [([0, 2], [5, 1]), ([2], [4]), ([], [])]
    columns = {"concept_ids": [ids for ids, _ in rows], "concept_counts": [n for _, n in rows]}
    table = type(empty).from_pydict(columns, empty.schema)
    assert pairs_of(table, 4).tolist() == [5, 0, 5, 0]
    assert pairs_of(empty, 2).tolist() == [0, 0]


def test_a_shard_far_from_the_median_is_named():
    rates = [10.0, 10.5, 9.5, 10.2, 9.8, 10.1, 9.9, 10.4, 30.0]
    shards = [(f"{i}.tar", 64, rate) for i, rate in enumerate(rates)]
    assert [name for name, _, _ in unlike_shards(shards)] == ["8.tar"]
    assert unlike_shards(shards[:8]) == []
    assert unlike_shards([("a", 1, 1.0), ("b", 1, 99.0)]) == []  # two shards have no majority


def test_equal_shards_are_not_unlike_for_rounding():
    assert unlike_shards([(str(i), 64, 10.0 + 1e-9 * i) for i in range(20)]) == []


@pytest.mark.parametrize(
    ("top", "residual", "expected"),
    [([1.0, 0.0], 0.0, 0.0), ([0.25, 0.25], 0.5, 1.0), ([0.5, 0.5], 0.0, 0.5)],
)
def test_entropy_is_a_share_of_that_of_equal_probabilities(top, residual, expected):
    found = relative_entropy(np.array([top], np.float32), np.array([residual], np.float32), 4)
    assert found[0] == pytest.approx(expected, abs=1e-6)


def test_one_concept_has_no_entropy():
    assert relative_entropy(np.ones((2, 1), np.float32), np.zeros(2, np.float32), 1).tolist() == [0, 0]


@pytest.mark.parametrize("options", [{}, {"log": True}, {"whole": True}])
@pytest.mark.parametrize(
    "values", [[], [3.0], [3.0, 3.0], [1.0, 2.0, 200.0], [0.0, float("nan"), 5.0], [-2.0, 7.0]]
)
def test_every_finite_value_falls_into_a_bar(values: list[float], options: dict[str, bool]):
    found = histogram("title", "unit", values, **options)
    assert sum(found.counts) == found.n == np.isfinite(values).sum()
