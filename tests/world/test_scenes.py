"""The known-truth world: deterministic, true boxes, captions that mostly speak of what is there."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from world import scenes
from world.captions import plural


def test_scene_depends_on_seed_and_index_alone():
    first = scenes.draw_scene(3, 5)
    scenes.draw_scene(4, 9)
    again = scenes.draw_scene(3, 5)
    assert np.array_equal(first.image, again.image)
    assert first.captions == again.captions == scenes.captions(3, 5)
    assert not np.array_equal(first.image, scenes.draw_scene(3, 6).image)
    assert not np.array_equal(first.image, scenes.draw_scene(2, 5).image)


def test_another_process_draws_the_same_bytes():
    code = (
        "import hashlib; from world import scenes;"
        "print(hashlib.sha256(scenes.encode_png(scenes.draw_scene(1, 2).image)).hexdigest())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert out == hashlib.sha256(scenes.encode_png(scenes.draw_scene(1, 2).image)).hexdigest()


def test_truth_equals_the_drawn_scene_at_every_size():
    for index in range(20):
        boxes, kinds = scenes.truth(7, index)
        for size in (64, 160):
            scene = scenes.draw_scene(7, index, size)
            assert scene.image.shape == (size, size, 3)
            assert scene.kinds == kinds
            assert np.array_equal(scene.boxes_xyxy_norm, boxes)
        assert boxes.dtype == np.float32
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert 1 <= len(kinds) <= 6
        assert 2 <= len(scene.captions) <= 5


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_boxes_are_tight_around_the_pixels(kind: str, monkeypatch: pytest.MonkeyPatch):
    """A lone object painted on a plain canvas: the changed pixels fill its box, to 2 px of 200."""
    monkeypatch.setattr(scenes, "_N_OBJECTS", [1])
    monkeypatch.setattr(scenes.paint, "background", lambda w, h, rng: np.full((h, w, 3), 119.5, np.float32))
    monkeypatch.setattr(scenes.paint.Image.Image, "filter", lambda image, blur: image.point(lambda v: 0))
    checked = 0
    for index in range(4):
        scene = scenes.draw_scene(11, index, 200, [kind])
        changed = (np.abs(scene.image.astype(int) - 120) > 2).any(2)
        ys, xs = np.nonzero(changed)
        drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(drawn - scene.boxes_xyxy_norm[0] * 200).max() < 3.5, (
            drawn,
            scene.boxes_xyxy_norm[0] * 200,
        )
        checked += 1
    assert checked == 4


def test_kinds_and_split():
    assert len(scenes.KINDS) == len(set(scenes.KINDS)) >= 40
    assert set(scenes.NOVEL_KINDS) <= set(scenes.KINDS)
    assert set(scenes.BASE_KINDS) == set(scenes.KINDS) - set(scenes.NOVEL_KINDS)
    assert sum(" " in kind for kind in scenes.KINDS) >= 4


def test_a_world_of_base_kinds_never_shows_or_names_a_novel_one():
    for index in range(150):
        assert not set(scenes.truth(0, index, scenes.BASE_KINDS)[1]) & set(scenes.NOVEL_KINDS)
        text = " ".join(scenes.captions(0, index, scenes.BASE_KINDS)).lower()
        for kind in scenes.NOVEL_KINDS:
            assert f" {kind} " not in f" {text} "


def test_captions_are_partial_and_mostly_right():
    named = wrong = objects = found = 0
    for index in range(400):
        _, kinds = scenes.truth(5, index)
        text = " ".join(scenes.captions(5, index)).lower().replace(",", " ").replace(".", " ")
        words = f" {' '.join(text.split())} "
        said = {k for k in scenes.KINDS if f" {k} " in words or f" {plural(k)} " in words}
        named += len(said)
        wrong += len(said - set(kinds))
        objects += len(set(kinds))
        found += len(said & set(kinds))
    assert 0.03 < wrong / named < 0.25
    assert 0.6 < found / objects < 0.98


def test_objects_overlap_but_none_hides_another():
    overlaps = 0
    for index in range(200):
        boxes, _ = scenes.truth(2, index)
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                covered = scenes._covered(a, b)
                assert covered < 0.36
                overlaps += covered > 0.05
    assert overlaps > 20


@pytest.mark.parametrize("kind", ["apple", "cherry", "leaf", "traffic light", "ice cream"])
def test_plurals(kind: str):
    expected = {
        "apple": "apples", "cherry": "cherries", "leaf": "leaves", "traffic light": "traffic lights",
        "ice cream": "ice creams",
    }  # fmt: skip
    assert plural(kind) == expected[kind]
