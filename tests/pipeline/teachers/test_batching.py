from __future__ import annotations

import threading

import pytest
import torch

from pipeline.teachers.batching import ahead, groups_by_size, halving


def test_images_of_one_size_go_together_in_the_order_of_their_first():
    sizes = {0: (2, 3), 2: (3, 2), 3: (2, 3), 5: (2, 3), 6: (3, 2)}
    assert groups_by_size(sizes, 8) == [[0, 3, 5], [2, 6]]
    assert groups_by_size(sizes, 2) == [[0, 3], [2, 6], [5]]
    assert groups_by_size({}, 2) == []


def test_a_batch_that_does_not_fit_is_halved_not_lost():
    tried = []

    def run(items):
        tried.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * i for i in items]

    assert halving(run, list(range(9))) == [2 * i for i in range(9)]
    assert max(t for t in tried if t <= 3) >= 2
    assert tried[0] == 9


def test_one_item_that_does_not_fit_is_an_error():
    def run(items):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        halving(run, [1, 2])


def test_another_error_is_not_retried():
    calls = []

    def run(items):
        calls.append(items)
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        halving(run, [1, 2])
    assert len(calls) == 1


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_ahead_is_map_in_order(threads, n):
    assert list(ahead(lambda i: i * i, list(range(n)), threads)) == [i * i for i in range(n)]


def test_ahead_works_while_the_consumer_is_busy():
    second = threading.Event()

    def make(item):
        if item == 1:
            second.set()
        return item

    results = ahead(make, [0, 1, 2], threads=1)
    assert next(results) == 0
    assert second.wait(10)  # item 1 is made though nobody has asked for it
    assert list(results) == [1, 2]
