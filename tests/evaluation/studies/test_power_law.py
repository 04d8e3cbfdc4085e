"""The power law: known laws are found, and unsupported ones are not extrapolated."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.studies import power_law

SIZES = [64, 128, 256, 512, 1024]


def _runs(law, noise: float, seeds: int = 3, sizes=SIZES) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(0)
    n = [float(size) for size in sizes for _ in range(seeds)]
    return n, [float(law(size) + rng.normal(0, noise)) for size in n]


@pytest.mark.parametrize(("a", "b", "c"), [(3.0, 0.5, 0.2), (20.0, 1.0, 0.3), (1.0, 0.3, 0.0)])
def test_a_known_law_is_found(a: float, b: float, c: float):
    law = power_law.PowerLaw(a, b, c)
    found = power_law.fit(*_runs(law, 0.002), n_bootstrap=50)
    assert found.law(SIZES) == pytest.approx(law(SIZES), abs=0.006)
    assert found.b_interval[0] - 0.1 <= b <= found.b_interval[1] + 0.1
    assert found.r2 > 0.95


def test_prediction_nearby_holds_and_far_away_is_refused():
    law = power_law.PowerLaw(3.0, 0.5, 0.2)
    found = power_law.fit(*_runs(law, 0.001), n_bootstrap=50)
    assert found.supported == ""
    error, low, high = found.predict(2048)
    assert low <= error <= high
    assert error == pytest.approx(float(law(2048)), abs=0.01)
    with pytest.raises(ValueError, match="more than 4 times"):
        found.predict(100_000)


def test_a_flat_curve_supports_nothing():
    found = power_law.fit(*_runs(lambda n: 0.5, 0.01), n_bootstrap=50)
    with pytest.raises(ValueError, match="no extrapolation"):
        found.predict(2048)
    assert 0.4 < found.predict(512)[0] < 0.6  # interpolation stays allowed


def test_a_narrow_range_and_single_runs_support_nothing():
    law = power_law.PowerLaw(3.0, 0.5, 0.2)
    narrow = power_law.fit(*_runs(law, 0.001, sizes=[64, 80, 100, 128]), n_bootstrap=20)
    assert "factor" in narrow.supported
    once = power_law.fit(*_runs(law, 0.001, seeds=1), n_bootstrap=20)
    assert "once" in once.supported


def test_too_few_sizes_are_refused():
    with pytest.raises(ValueError, match="4 sizes"):
        power_law.fit([1, 2, 3], [0.5, 0.4, 0.3])


def test_the_same_runs_give_the_same_fit():
    runs = _runs(power_law.PowerLaw(3.0, 0.5, 0.2), 0.01)
    assert power_law.fit(*runs, n_bootstrap=20).b_interval == power_law.fit(*runs, n_bootstrap=20).b_interval


def test_a_law_that_misses_its_own_largest_size_supports_nothing():
    """Error falls as a power of the size, and then no further: each fit alone looks fine."""
    sizes = np.repeat([64, 128, 256, 512, 1024, 2048], 3)
    rng = np.random.default_rng(0)
    errors = np.maximum(1.2 * sizes**-0.22, 1.2 * 800**-0.22) + rng.normal(0, 0.003, len(sizes))
    found = power_law.fit(sizes, errors, n_bootstrap=50)
    assert "fitted to the smaller sizes alone" in found.supported
    with pytest.raises(ValueError, match="no extrapolation"):
        found.predict(4096)
