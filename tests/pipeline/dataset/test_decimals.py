"""The text of rounded numbers, against `json.dumps` of Python's `round`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.dataset.decimals import decimals


def slowly(values: np.ndarray, digits: int) -> list[str]:
    return [json.dumps(round(float(value), digits)) for value in values]


@pytest.mark.parametrize("digits", [4, 5])
def test_numbers_of_the_unit_interval_are_those_of_pythons_round(digits):
    halves = (np.random.default_rng(0).integers(0, 10**digits, 3000) + 0.5) / 10**digits
    values = np.concatenate([halves, [0.0, 1.0, 1e-9, 0.99999999]]).astype(np.float32)
    values = np.concatenate(
        [values, np.nextafter(values, np.float32(0)), np.linspace(0, 1, 999, dtype=np.float32)]
    )
    assert decimals(values, digits) == slowly(values, digits)


@pytest.mark.parametrize("odd", [-0.0, -1e-9, 1.0001, -3.2, 12.5, np.nan, np.inf, -np.inf])
def test_one_number_outside_of_it_changes_nothing_about_the_others(odd):
    values = np.array([0.25, odd, 0.12345], np.float32)
    assert decimals(values, 4) == ["0.25", *slowly(values[1:], 4)]


def test_no_numbers_are_no_texts():
    assert decimals(np.zeros(0, np.float32), 4) == []
