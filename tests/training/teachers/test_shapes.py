"""The embedded teacher's training: resumable to the same weights, image-level alone, centred at the end."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.teachers.settings import Phase, ShapesTeacherSettings
from training.teachers.shapes import Scenes, Trainer, contrast, finish
from world import scenes

SETTINGS = ShapesTeacherSettings(
    scenes=24, seed=3, phases=[Phase(16, 32, 2), Phase(16, 64, 6)], batch_images=4, lr=1e-3
)


@pytest.fixture(scope="module")
def drawn_scenes() -> Scenes:
    drawn = [scenes.draw_scene(3, i, 64, scenes.BASE_KINDS) for i in range(SETTINGS.scenes)]
    return Scenes(
        np.stack([s.image for s in drawn]), [s.captions for s in drawn], [len(s.kinds) for s in drawn]
    )


def test_a_resumed_run_equals_an_undisturbed_one(drawn_scenes: Scenes):
    whole = Trainer(SETTINGS)
    for _ in range(4):
        whole.advance(drawn_scenes)
    first = Trainer(SETTINGS)
    for _ in range(2):
        first.advance(drawn_scenes)
    saved = copy.deepcopy(first.state_dict())
    second = Trainer(SETTINGS)
    second.load_state_dict(saved)
    for _ in range(2):
        second.advance(drawn_scenes)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_the_schedule_counts_passes():
    assert SETTINGS.steps == 8
    assert [SETTINGS.phase_of(step).side for step in (0, 3, 4, 7)] == [32, 32, 64, 64]


def test_batches_keep_to_their_phase(drawn_scenes: Scenes):
    images, captions = drawn_scenes.batch(SETTINGS, 0)
    assert images.shape == (4, 3, 32, 32)
    assert {len(c) for c in captions} == {3}
    again, _ = drawn_scenes.batch(SETTINGS, 0)
    assert torch.equal(images, again)


def test_the_loss_prefers_the_right_captions(drawn_scenes: Scenes):
    trainer = Trainer(replace(SETTINGS, phases=[Phase(160, 32, 2)]))
    for _ in range(30):
        trainer.step = 0  # the same batch again and again
        trainer.advance(drawn_scenes)
    trainer.model.eval()
    images, captions = drawn_scenes.batch(SETTINGS, 0)
    with torch.no_grad():
        right = contrast(trainer.model, images, captions)
        wrong = contrast(trainer.model, images, captions[1:] + captions[:1])
    assert right < wrong - 0.3


def test_finish_centres_the_texts(drawn_scenes: Scenes):
    trainer = Trainer(SETTINGS)
    finish(trainer.model, drawn_scenes, SETTINGS, batches=3)
    texts = [
        text
        for i in range(3)
        for row in drawn_scenes.batch(SETTINGS, SETTINGS.steps - 1 - i)[1]
        for text in row
    ]
    with torch.no_grad():
        assert trainer.model.text(texts).mean(0).abs().max() < 1e-5
    assert 4 <= trainer.model.log_scale.exp() <= 40.1
