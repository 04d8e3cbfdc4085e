"""Intervals by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.intervals import mean_interval


def test_mean_interval_by_hand():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert np.isnan(mean_interval([1.0])[1])
