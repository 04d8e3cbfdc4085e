"""A function over items as Ray tasks."""

from __future__ import annotations

import functools

import pytest

from jobs.on_ray.tasks import TaskMap

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_instance")]


def _halved(number: int, by: int) -> int:
    if number % by:
        raise ValueError(f"{number} is odd")
    return number // by


def test_all_results_arrive():
    halved = functools.partial(_halved, by=2)
    assert sorted(TaskMap(cpus=0.5)(halved, [2, 4, 6, 8])) == [1, 2, 3, 4]


def test_an_exception_in_a_task_ends_the_map():
    with pytest.raises(ValueError, match="3 is odd"):
        list(TaskMap(cpus=0.5)(functools.partial(_halved, by=2), [2, 3]))
