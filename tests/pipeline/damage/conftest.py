"""A dataset that is broken anew by each test, and another one to take wrong files from."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from pipeline.build import build
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
from tests.pipeline.damage.faults import (
    ALIGN,
)


@pytest.fixture(scope="module", autouse=True)
def _models():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset's settings."""
    folder = tmp_path_factory.mktemp("made")
    settings = worlds.settings(folder / "first", worlds.coco_folder(folder / "source", n=8), align=ALIGN)
    build(settings, LocalRunner())
    return settings


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made.out, tmp_path / "first")
    return dataclasses.replace(made, out=str(tmp_path / "first"))


@pytest.fixture(scope="module")
def other(made, tmp_path_factory):
    """A dataset of another input, hence another pool; its folder."""
    folder = tmp_path_factory.mktemp("other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "THINGS", ["cup", "dog", "tree"])
        source = worlds.coco_folder(folder / "source", n=8)
    align = dataclasses.replace(ALIGN, tau=0.2)
    build(dataclasses.replace(made, source=source, out=str(folder / "other"), align=align), LocalRunner())
    return folder / "other"
