"""Pixels of the world: backgrounds are deterministic and differ."""

from __future__ import annotations

import random

import numpy as np

from world.paint import background


def test_a_background_follows_from_its_random_numbers():
    first, again, other = (background(48, 32, random.Random(seed)) for seed in (3, 3, 4))
    assert first.shape == (32, 48, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 255
    assert first.std() > 3  # an even background would be no background to learn from
