"""The pen: outlines by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from world.colors import FIXED, NAMED, TYPICAL, mix
from world.pen import Pen, arc, mirror, spokes


def test_a_box_has_its_corners_and_a_bevelled_one_cuts_them():
    pen = Pen(random.Random(0))
    pen.box(-1, -0.5, 1, 0.5)
    pen.box(-1, -0.5, 1, 0.5, bevel=0.2)
    plain, bevelled = (stroke.points for stroke in pen.strokes)
    assert plain.tolist() == [[-1, -0.5], [1, -0.5], [1, 0.5], [-1, 0.5]]
    assert len(bevelled) == 8
    assert np.abs(bevelled).max(axis=0).tolist() == [1, 0.5]
    assert [-1, -0.5] not in bevelled.tolist()


def test_an_ellipse_keeps_its_radii_and_turns():
    flat = np.array(arc(0, 0, 2, 1, 0, 360))
    assert np.abs(flat).max(axis=0) == pytest.approx([2, 1], abs=0.02)
    upright = np.array(arc(0, 0, 2, 1, 0, 360, turn=90))
    assert np.abs(upright).max(axis=0) == pytest.approx([1, 2], abs=0.02)


def test_a_star_has_its_tips_outside():
    radii = np.linalg.norm(np.array(spokes(5, 1.0, 0.4)), axis=1)
    assert radii.tolist() == pytest.approx([1.0, 0.4] * 5)


def test_a_mirrored_outline_is_closed_and_symmetric():
    outline = mirror([(0.5, -1), (0.3, 1)])
    assert outline == [(0.5, -1), (0.3, 1), (-0.3, 1), (-0.5, -1)]


def test_colours_that_are_typical_have_a_value():
    assert set(TYPICAL.values()) <= set(NAMED)
    assert all(0 <= channel <= 255 for color in [*NAMED.values(), *FIXED.values()] for channel in color)
    assert mix((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)
