"""Figures on a page: what a person reads of a count, of bytes."""

from __future__ import annotations

import pytest

from reports.page import short, size


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (9_999_999, "9\u202f999\u202f999"),
        (10_000_000, "10 million"),
        (123_456_789, "123.5 million"),
        (12_345_678_901, "12.35 billion"),
        (2 * 10**12, "2 trillion"),
    ],
)
def test_a_large_count_fits_a_small_place(n: int, text: str):
    assert short(n) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(999, "999 bytes"), (999_950, "1.0 MB"), (31e6, "31.0 MB"), (2.5e12, "2.5 TB")]
)
def test_bytes_are_in_the_unit_that_fits(n_bytes: float, text: str):
    assert size(n_bytes) == text
