"""The shipped weights find objects: a floor well below the measured figures (docs/localizers.md), well above chance."""

import pytest
import torch

from pipeline import localizers
from pipeline.localizers.settings import LocalizerSettings
from tests.shared_data import shared_data
from training.localizers.average_recall import average_recall, propose_all
from training.localizers.examples import CocoBoxes, InMemory, SceneBoxes
from training.localizers.settings import BoxDataSettings
from world.scenes import KINDS


def recall(kind, source):
    localizer = localizers.load(LocalizerSettings(kind=kind))
    return average_recall([source[i] for i in range(len(source))], propose_all(localizer, source))["ar100"]


def test_rpn_lite_beats_the_grid_on_scenes_of_another_seed():
    torch.set_num_threads(1)
    scenes = InMemory(SceneBoxes(BoxDataSettings().scenes_seed + 1, 12, 160, KINDS))
    found = recall("rpn-lite", scenes)
    assert found > 0.5
    assert found > 1.5 * recall("grid", scenes)


@pytest.mark.slow
def test_rpn_lite_beats_the_grid_twice_over_on_held_out_photographs():
    torch.set_num_threads(1)
    folder = shared_data() / "coco_photos"
    photos = InMemory(CocoBoxes(str(folder / "images"), str(folder / "instances.json"), 60, "held-out"))
    assert len(photos) == 60
    assert recall("rpn-lite", photos) > 2 * recall("grid", photos)
