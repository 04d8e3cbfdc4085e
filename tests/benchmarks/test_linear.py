"""The figures of benchmarks/linear.py: about the build, and not about what else the machine does."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import linear


def parts(cost: float, speed: np.ndarray) -> np.ndarray:
    """CPU seconds of parts and of the fixed work behind them, on a machine that is slower or faster meanwhile."""
    return np.stack([cost * speed, 0.01 * speed], axis=1)


@pytest.mark.parametrize("growth", [1.0, 1.1])
def test_a_machine_that_gets_slower_is_not_a_cost_that_grows(growth):
    rng = np.random.default_rng(0)
    before = parts(0.1, rng.uniform(0.9, 1.1, 124))
    after = parts(0.1 * growth, rng.uniform(1.2, 1.6, 380))
    assert linear._cost(after) / linear._cost(before) == pytest.approx(growth)
    low, high = linear._interval(before, after)
    assert low == pytest.approx(growth)
    assert high == pytest.approx(growth)


def test_the_interval_knows_that_neighbouring_parts_are_alike():
    rng = np.random.default_rng(0)
    one = np.repeat(rng.normal(1.0, 0.2, 60), linear.RUN)
    alike, mixed = (np.stack([x, np.ones(len(x))], axis=1) for x in (one, rng.permutation(one)))
    wide, narrow = (np.ptp(linear._interval(x[:120], x[120:])) for x in (alike, mixed))
    assert wide > 1.5 * narrow
