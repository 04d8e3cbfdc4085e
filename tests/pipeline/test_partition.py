"""Searches by hash partition: what they find for any size of a task, and what they leave."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import storage
from pipeline import partition, pieces
from pipeline.dataset.layout import Layout, is_ours
from pipeline.partition import Search

NUMBERS = np.dtype([("value", "<u8"), ("at", "<i8")])


def test_pieces_come_back_as_they_were_cut(tmp_path):
    values = np.arange(10, dtype="<i8")
    cut, ends = pieces.cut(values, values % 3, 5)
    pieces.write(str(tmp_path / "x"), cut, ends)
    assert [pieces.read(str(tmp_path / "x"), i, values.dtype).tolist() for i in range(5)] == [
        [0, 3, 6, 9],
        [1, 4, 7],
        [2, 5, 8],
        [],
        [],
    ]
    assert storage.size(str(tmp_path / "x")) == pieces.head_bytes(5) + values.nbytes


def test_groups_hold_every_unit_once_and_no_more_rows_than_a_task_has():
    groups = partition.groups_of([4, 6, 1, 0, 25, 3, 3], 10)
    assert groups == [range(0, 2), range(2, 4), range(4, 5), range(5, 7)]


def numbers_of(values: list[int], own: range) -> tuple[np.ndarray, np.ndarray]:
    rows = np.empty(len(own), NUMBERS)
    rows["value"], rows["at"] = values[own.start : own.stop], own
    return rows, rows["value"]


def last_of_each(rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    last = {int(value): row for value, row in zip(rows["value"], rows, strict=True)}
    found = np.array([last[value] for value in sorted(last)], NUMBERS)
    return found, [len(found)]


@pytest.mark.parametrize("n_shares", [1, 3, 50])
def test_equal_records_meet_in_plan_order_and_a_second_run_computes_nothing(tmp_path, n_shares):
    layout = Layout(str(tmp_path))
    values = np.random.default_rng(0).integers(0, 20, 60).tolist()
    items = [range(0, 7), range(7, 7), range(7, 41), range(41, 60)]
    one = Search("last", NUMBERS, partial(numbers_of, values), last_of_each)
    versions = ["a", "b", "c", "d"]
    (urls,) = partition.search(layout, [one], items, versions, n_shares, map)
    found = partition.read(urls, 0, NUMBERS)
    assert dict(found.tolist()) == {value: at for at, value in enumerate(values)}
    assert len(found) == len(set(values))
    assert len(urls) <= n_shares
    again = Search("last", NUMBERS, None, None)  # type: ignore[arg-type]
    assert partition.search(layout, [again], items, versions, n_shares, map) == [urls]
    with pytest.raises(TypeError):  # another version is no file of ours
        partition.search(layout, [again], items, ["a", "b", "c", "e"], n_shares, map)
    assert all(is_ours(f"plan/keys/{name}") for name in storage.names(layout.keys))
    partition.clear(layout)
    assert not list(storage.names(layout.keys))
