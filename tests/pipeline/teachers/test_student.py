"""A trained student as the next teacher: same embeddings as in its training, a dataset of its own, no silent mix-up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from concept_pool.settings import PoolSettings
from pipeline import teachers
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings
from tests.pipeline.teachers.test_load import TINY
from training.settings import StudentSettings
from training.student import build as build_student
from training.student import save_weights
from world import scenes

SHAPES = TeacherSettings(kind="shapes")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A student that is no longer its teacher: every weight of its image tower a little off."""
    encoder = build_student(StudentSettings(encoder=SHAPES)).encoder
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_weights(encoder, path)
    return str(path)


def _settings(checkpoint: str) -> TeacherSettings:
    return TeacherSettings(kind="student", checkpoint=checkpoint)


def test_its_regions_are_those_of_the_trained_model(checkpoint):
    scene = scenes.draw_scene(0, 0, 96)
    teacher = teachers.load(_settings(checkpoint))
    (seen,) = teacher.encode_regions([scene.image], [scene.boxes_xyxy_norm])
    student = build_student(StudentSettings(encoder=SHAPES, checkpoint=checkpoint)).eval()
    pixels = ((torch.from_numpy(scene.image) / 255 - student.mean) / student.std).permute(2, 0, 1)[None]
    with torch.no_grad():
        mine = student.encoder(pixels, [torch.from_numpy(scene.boxes_xyxy_norm)], torch.tensor([[96, 96]]))
    torch.testing.assert_close(seen, mine, atol=1e-4, rtol=1e-4)
    (before,) = teachers.load(SHAPES).encode_regions([scene.image], [scene.boxes_xyxy_norm])
    assert not torch.allclose(seen, before, atol=1e-2)


def test_its_texts_and_temperature_are_those_of_the_model_it_started_as(checkpoint):
    teacher, base = teachers.load(_settings(checkpoint)), teachers.load(SHAPES)
    assert torch.equal(teacher.encode_text(["a star"]), base.encode_text(["a star"]))
    assert teacher.logit_scale == base.logit_scale


def test_it_is_known_by_the_content_of_its_checkpoint(checkpoint, tmp_path):
    said = teachers.describe(_settings(checkpoint))
    assert said["base"] == "shapes"
    assert set(said["weights_sha256"]) == {"shapes.safetensors", "checkpoint"}
    (tmp_path / "moved.safetensors").write_bytes(Path(checkpoint).read_bytes())
    assert teachers.describe(_settings(str(tmp_path / "moved.safetensors"))) == said
    save_weights(teachers.load(SHAPES).tower.encoder, tmp_path / "other.safetensors")
    assert teachers.describe(_settings(str(tmp_path / "other.safetensors"))) != said


def test_a_build_with_it_stores_its_embeddings(checkpoint, tmp_path):
    settings = BuildSettings(
        out=str(tmp_path / "dataset"),
        runtime="local",
        source=SourceSettings(kind="shapes", count=6, size=96),
        localizer=LocalizerSettings(kind="grid", max_proposals=5),
        teacher=_settings(checkpoint),
        pool=PoolSettings(min_count=1),
        align=AlignSettings(region_embeddings="fp16"),
        workers=1,
        report=False,
    )
    build(settings, LocalRunner())
    assert Dataset.open(settings.out).n_samples == 6
    document = json.loads((tmp_path / "dataset" / "fingerprint.json").read_text())
    assert teachers.describe(settings.teacher)["weights_sha256"]["checkpoint"] in json.dumps(document)
    teacher = teachers.load(settings.teacher)
    for stored in Dataset.open(settings.out).samples():
        image = scenes.draw_scene(0, int(stored.meta["source_key"].split("-")[-1]), 96).image
        (fresh,) = teacher.encode_regions([image], [stored.arrays["boxes_xyxy_norm"]])
        unit = torch.nn.functional.normalize(fresh, dim=1).numpy()
        np.testing.assert_allclose(stored.arrays["region_embeddings"], unit, atol=2e-3)


def test_an_open_clip_student_is_told_where_its_weights_go(tmp_path):
    import open_clip

    (tmp_path / "tiny-for-students.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-for-students.json")
    settings = replace(_settings("student.safetensors"), base="open_clip", model="tiny-for-students")
    with pytest.raises(ValueError, match=r"teacher.base: 'open_clip' has no image tower.*teacher.pretrained"):
        teachers.load(settings)


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(torch.nn.Linear(2, 2), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors: not weights of this network"):
        teachers.load(_settings(str(tmp_path / "other.safetensors")))


def test_wrong_settings_are_refused():
    for settings, message in (
        ({"kind": "student"}, "teacher.checkpoint: kind student needs one"),
        ({"checkpoint": "a"}, "teacher.checkpoint: kind student needs one, and no other kind takes one"),
        ({"kind": "student", "checkpoint": "a", "base": "student"}, "teacher.base: is the kind"),
        ({"kind": "student", "checkpoint": "a", "base": "magic"}, "'magic' is not known"),
        ({"kind": "student", "checkpoint": "a", "features": "crop"}, "teacher.features: a student"),
    ):
        with pytest.raises(ValueError, match=message):
            TeacherSettings(**settings)
