"""Which samples are shown, and what of their text."""

from __future__ import annotations

import hashlib

import pytest

from pipeline.dataset import ShardRow
from reports.choose import plain, spread


def _shards(*sizes: int) -> list[ShardRow]:
    names = [f"{i:06d}" for i in range(len(sizes))]
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return [
        ShardRow(f"{name}.tar", name, f"shards/{name}.tar", digest, 10, n, f"index/{name}.parquet", "")
        for name, digest, n in zip(names, digests, sizes, strict=True)
    ]


def test_one_sample_of_each_shard_in_turn():
    chosen = spread(_shards(5, 1, 5), 6)
    assert [position for _, position in chosen] == [0, 0, 0, 1, 1, 2]
    assert len({(shard.name, position) for shard, position in chosen}) == 6
    assert [shard.sha256 for shard, _ in chosen[:3]] == sorted(s.sha256 for s in _shards(5, 1, 5))


def test_a_small_dataset_gives_all_it_has():
    assert len(spread(_shards(2, 3), 100)) == 5
    assert spread([], 3) == []


def test_many_shards_are_not_all_touched():
    assert len({shard.name for shard, _ in spread(_shards(*[4] * 50), 8)}) == 8


def test_the_choice_does_not_depend_on_the_order_of_the_shards():
    shards = _shards(3, 3, 3, 3)
    assert spread(shards, 5) == spread(shards[::-1], 5)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat", "a cat"),
        ("a\n\tcat\x1b[31m\u202ered", "a cat [31m red"),
        ("x" * 30, "x" * 9 + "…"),
        ("\ud800 lone", "lone"),
        ("", ""),
        ("a " * 1_000_000, "a a a a a…"),
    ],
)
def test_text_becomes_one_short_line(text: str, shown: str):
    assert plain(text, 10) == shown if len(shown) <= 10 else plain(text, 20) == shown
