"""Singulars of plurals that two nouns have."""

from __future__ import annotations

import pytest

from concept_pool.tagger import Tagger


@pytest.fixture(scope="module")
def singular():
    return Tagger().singular


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("lenses", "lens"), ("bunches", "bunch"), ("crosses", "cross"), ("leaves", "leaf"), ("buses", "bus"),
        ("dresses", "dress"),
        ("scissors", "scissors"), ("vases", "vase"), ("corpses", "corpse"), ("houses", "house"), ("ashes", "ash"),
        ("shoes", "shoe"),
        ("masses", "mass"), ("boxes", "box"), ("knives", "knife"),
    ],
)  # fmt: skip
def test_the_usual_noun_wins(singular, plural, expected):
    assert singular(plural, True) == expected
