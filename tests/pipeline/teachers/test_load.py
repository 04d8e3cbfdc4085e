from __future__ import annotations

import hashlib

import numpy as np
import open_clip
import pytest
import torch

from pipeline import teachers
from pipeline.teachers.settings import TeacherSettings
from training.student import load_encoder

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path):
    """An open_clip model small enough for a test, known by name."""
    import json

    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    return "tiny-for-tests"


@pytest.mark.parametrize("features", ["roi", "crop"])
def test_an_open_clip_teacher_keeps_the_contract(tiny, features):
    teacher = teachers.load(TeacherSettings(kind="open_clip", model=tiny, image_size=64, features=features))
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    box = np.array([[0.1, 0.1, 0.9, 0.8], [0.0, 0.0, 1.0, 1.0]], np.float32)
    regions = teacher.encode_regions([image, image], [box, box[:0]])
    assert [tuple(r.shape) for r in regions] == [(2, teacher.dim), (0, teacher.dim)]
    assert teacher.encode_text([]).shape == (0, teacher.dim)
    texts = teacher.encode_text(["a cat", "a dog " * 200])
    assert texts.shape == (2, 24)
    assert texts.dtype == torch.float32
    assert teacher.logit_scale > 1


def test_random_weights_are_those_of_seed_0_and_disturb_no_other_randomness(tiny):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = teachers.load(TeacherSettings(kind="open_clip", model=tiny)).encode_text(["a cat"])
    assert torch.rand(1) == expected
    second = teachers.load(TeacherSettings(kind="open_clip", model=tiny)).encode_text(["a cat"])
    assert first.numpy().tobytes() == second.numpy().tobytes()


def test_texts_come_back_in_the_order_they_were_given(tiny, monkeypatch):
    teacher = teachers.load(TeacherSettings(kind="open_clip", model=tiny))
    texts = ["a photo of a very small dog.", "cat", "a dog", "", "the large red bus on the street"]
    alone = torch.cat([teacher.encode_text([text]) for text in texts])
    monkeypatch.setattr(teacher, "batch_texts", 2)
    torch.testing.assert_close(teacher.encode_text(texts), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parity(6)
def test_a_long_text_keeps_its_end():
    tokens = open_clip.get_tokenizer("RN50")(["dog " * 200])[0]
    assert tokens[-1] == tokens.max()


def test_a_checkpoint_is_known_by_its_content(tiny, tmp_path):
    model = open_clip.create_model(tiny)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    settings = TeacherSettings(kind="open_clip", model=tiny, pretrained=str(tmp_path / "weights.pt"))
    said = teachers.describe(settings)
    digest = hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    assert said["weights_sha256"] == {"pretrained": digest}
    with torch.no_grad():
        expected = model.eval().encode_text(open_clip.get_tokenizer(tiny)(["a cat"]))
    torch.testing.assert_close(teachers.load(settings).encode_text(["a cat"]), expected)


def test_a_published_model_is_known_by_name_and_tag():
    said = teachers.describe(TeacherSettings(kind="open_clip", model="RN50", pretrained="openai"))
    assert (said["model"], said["pretrained"], said["weights_sha256"]) == ("RN50", "openai", {})


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"features": "crop"}, {"image_size": 320}, {"model": "RN101"}]
)
def test_what_changes_embeddings_changes_the_description(change):
    plain = TeacherSettings(kind="open_clip")
    changed = TeacherSettings(**{"kind": "open_clip", **change})
    assert teachers.describe(plain) != teachers.describe(changed)


def test_where_it_runs_is_no_part_of_the_description():
    plain, other = (
        TeacherSettings(kind="open_clip"),
        TeacherSettings(kind="open_clip", device="cuda", batch_images=2),
    )
    assert teachers.describe(plain) == teachers.describe(other)


def test_bad_settings_are_named():
    for settings, message in (
        ({"kind": "magic"}, r"teacher.kind: 'magic' is not known \(photo, shapes, open_clip, student\)"),
        ({"features": "both"}, r"teacher.features: 'both'"),
        ({"precision": "fp8"}, r"teacher.precision: 'fp8'"),
        ({"batch_images": 0}, r"teacher.batch_images: must be at least 1, is 0"),
        ({"image_size": -1}, r"teacher.image_size: must be in \[0, 4096\], is -1"),
        ({"resize_threads": -1}, r"teacher.resize_threads: must not be negative"),
        ({"device": ""}, r"teacher.device: is empty"),
        ({"options": {"a": 1}}, r"teacher.options: kind shapes takes none"),
    ):
        with pytest.raises(ValueError, match=message):
            TeacherSettings(**settings)


def test_weights_that_cannot_be_downloaded_are_one_line_that_says_what_to_do(monkeypatch):
    import open_clip

    def create_model(*_, **__):
        raise RuntimeError("Failed to download weights for tag 'openai': no network")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    settings = TeacherSettings(kind="open_clip", model="RN50", pretrained="openai")
    for load in (teachers.load, load_encoder):
        with pytest.raises(ValueError, match=r"'openai' of RN50 .* cannot be downloaded; name the file"):
            load(settings)
