"""Many small requests at once: in order, bounded, and the first error is the one that is raised."""

from __future__ import annotations

import threading
import time

import pytest

import storage


def test_results_are_in_order_and_no_more_run_than_allowed():
    running, most, lock = 0, 0, threading.Lock()

    def work(i):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (i % 3))
        with lock:
            running -= 1
        return i * i

    assert list(storage.map_threads(work, range(50), threads=4)) == [i * i for i in range(50)]
    assert 2 <= most <= 4
    assert list(storage.map_threads(work, [])) == []


def test_the_first_error_in_order_is_raised_and_no_more_are_started():
    started = []

    def work(i):
        started.append(i)
        if i == 3:
            time.sleep(0.05)
            raise ValueError("item 3")
        if i == 5:
            raise ValueError("item 5, earlier in time")
        return i

    with pytest.raises(ValueError, match="item 3"):
        list(storage.map_threads(work, range(1000), threads=4))
    assert len(started) < 100


def test_an_endless_input_is_read_as_it_is_needed():
    taken = []

    def endless():
        i = 0
        while True:
            taken.append(i)
            yield i
            i += 1

    results = storage.map_threads(str, endless(), threads=2)
    assert [next(results) for _ in range(5)] == list("01234")
    results.close()
    assert len(taken) < 20
