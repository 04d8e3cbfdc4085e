"""Issues and extremes, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.dataset import ShardRow
from pipeline.scores import BELOW_SCORE, KEPT
from reports.books import Books
from reports.extremes import disagreement, extremes
from reports.issues import find
from reports.look import Look, Seen

SHARD = ShardRow("0.tar", "0", "shards/0.tar", "a" * 64, 1, 9, "index/0.parquet", "b" * 64)
NAMES = ["cat", "dog", "cow", "kite"]


def _seen(key: str, **changes: Any) -> Seen:
    """A sample of 100 x 100 pixels with two regions, one of them a pair: a cat that the caption names."""
    values: dict[str, Any] = {
        "place": (SHARD, 0),
        "key": key,
        "source_key": f"{key}.jpg",
        "captions": ["a cat"],
        "mentioned": frozenset({0}),
        "width": 100,
        "height": 100,
        "n_bytes": 1000,
        "boxes": np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9]], np.float32),
        "labels": np.array([0, 1]),
        "probabilities": np.array([0.8, 0.1], np.float32),
        "scores": np.array([0.8, 0.1], np.float32),
        "objectness": np.array([2.0, 1.0], np.float32),
        "entropy": np.array([0.2, 0.5], np.float32),
        "reasons": np.array([KEPT, BELOW_SCORE], np.uint8),
        "looks": int(key, 36),
    }
    return Seen(**{**values, **changes})


def _books(pairs: list[int]) -> Books:
    counts = {
        "n_read": 10,
        "n_samples": 9,
        "n_rejected": 1,
        "n_regions": 40,
        "n_pairs": sum(pairs),
        "n_bytes": 9,
    }
    return Books(counts, np.array(pairs), [("0.tar", 9, 1.0)], [("missing_file", 1)], {}, {})


def _issues(seen: list[Seen], pairs: list[int]) -> dict[str, Any]:
    return {issue.title: issue for issue in find(_books(pairs), Look(seen, [SHARD], ""), NAMES)}


def test_each_fault_is_counted_where_it_is():
    nothing = np.full(2, BELOW_SCORE, np.uint8)
    whole = np.array([[0, 0, 1, 1], [0, 0, 0.1, 0.1]], np.float32)
    tiny = np.array([[0, 0, 0.15, 0.9], [0, 0, 1, 1]], np.float32)
    seen = [
        _seen("a"),
        _seen("b", reasons=nothing),
        _seen("c", boxes=whole),
        _seen("d", boxes=tiny),
        _seen("e", entropy=np.array([0.95, 0.99], np.float32)),
        _seen("f", looks=int("a", 36)),
        _seen("g", looks=None),
        _seen("h", looks=None),
    ]
    found = _issues(seen, [30, 1, 0, 0])
    assert found["Rejected: missing_file"].n == 1
    assert found["Images without a pair"].n == 1
    assert [s.seen.key for s in found["Images without a pair"].shown] == ["b"]
    assert [s.seen.key for s in found["Pairs whose box is the whole image"].shown] == ["c"]
    assert [s.seen.key for s in found["Pairs whose box is under 16 px"].shown] == ["d"]
    assert found["Regions whose label is a guess"].n == 2
    assert found["Images that look the same as another"].n == 1  # what cannot be decoded looks like nothing
    assert found["Concepts without a pair"].names == ["cow", "kite"]
    assert found["Pairs of concepts that hold more than 5 % of all"].n == 30


def test_what_is_exact_says_so():
    found = _issues([_seen("a")], [3, 3, 3, 3])
    assert found["Rejected: missing_file"].exact
    assert not found["Images without a pair"].exact


def test_teacher_and_caption_disagree_by_what_the_teacher_is_sure_of():
    agreed, strange = _seen("a"), _seen("b", mentioned=frozenset({2}))
    assert disagreement(agreed) == 0
    assert disagreement(strange) == np.float32(0.8)
    found = dict(extremes([agreed, strange, _seen("c", captions=[], mentioned=frozenset())]))
    assert [s.key for s in found["Teacher and caption disagree"]] == ["b"]


def test_ends_are_the_most_extreme_first_and_empty_ones_are_left_out():
    sure, unsure = _seen("b"), _seen("a", probabilities=np.array([0.3, 0.1], np.float32))
    found = dict(extremes([unsure, sure]))
    assert [s.key for s in found["Most certain"]] == ["b", "a"]
    assert [s.key for s in found["Least certain"]] == ["a", "b"]
    assert "Teacher and caption disagree" not in found
    assert extremes([]) == []
