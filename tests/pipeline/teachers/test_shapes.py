"""The embedded teacher: its contract, its gradients, and that it knows what it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from pipeline import teachers
from pipeline.networks.weights_files import shipped
from pipeline.teachers.settings import TeacherSettings
from pipeline.teachers.shapes import ShapesRegions
from pipeline.teachers.shapes_clip import ShapesClip, words_of
from world import scenes


@pytest.fixture(scope="module")
def teacher():
    return teachers.load(TeacherSettings(kind="shapes"))


def test_weights_are_small_and_named_in_the_fingerprint():
    assert Path(shipped("pipeline.teachers", "shapes")).stat().st_size < 4 * 2**20
    said = teachers.describe(TeacherSettings(kind="shapes"))
    assert list(said["weights_sha256"]) == ["shapes.safetensors"]


def test_shapes_and_empty_inputs(teacher):
    scene = scenes.draw_scene(0, 0)
    boxes = [scene.boxes_xyxy_norm, np.zeros((0, 4), np.float32)]
    regions = teacher.encode_regions([scene.image, scene.image], boxes)
    assert [tuple(r.shape) for r in regions] == [(len(scene.kinds), teacher.dim), (0, teacher.dim)]
    assert teacher.encode_text([]).shape == (0, teacher.dim)
    assert teacher.encode_text(["a star", ""]).shape == (2, teacher.dim)
    assert 1 < teacher.logit_scale <= 100


def test_a_batch_equals_one_image_at_a_time(teacher):
    drawn = [scenes.draw_scene(1, i, size) for i, size in enumerate((160, 160, 96, 131))]
    images, boxes = [s.image for s in drawn], [s.boxes_xyxy_norm for s in drawn]
    together = teacher.encode_regions(images, boxes)
    for image, box, expected in zip(images, boxes, together, strict=True):
        assert torch.allclose(teacher.encode_regions([image], [box])[0], expected, atol=1e-4)


def test_padding_has_no_influence(teacher):
    """What a student sees: images of several sizes on one canvas, sides that are no multiple of the stride."""
    encoder: ShapesRegions = teacher.tower.encoder
    canvas = torch.zeros(2, 3, 104, 112)
    sizes = torch.tensor([[104, 112], [77, 50]])
    generator = torch.Generator().manual_seed(0)
    for row, (h, w) in zip(canvas, sizes.tolist(), strict=True):
        row[:, :h, :w] = torch.rand(3, h, w, generator=generator)
    boxes = [torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0]])] * 2
    padded = encoder(canvas, boxes, sizes)
    for i, (h, w) in enumerate(sizes.tolist()):
        alone = encoder(canvas[i : i + 1, :, :h, :w], boxes[:1])
        assert torch.allclose(padded[2 * i : 2 * i + 2], alone, atol=1e-5)


def test_regions_are_the_maximum_of_torchvisions_roi_align():
    """The slow twin of `pool`, on small and large boxes in mixed order, and its gradient."""
    tower = ShapesClip().image
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(24, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([160.0, 96.0])
    corners[5] = torch.tensor([[0.0, 0.0], [160.0, 96.0]])
    rois = torch.cat([torch.arange(24)[:, None] % 3, corners.flatten(1)], dim=1)
    features = torch.randn(3, 256, 12, 20, generator=generator, requires_grad=True)
    large = (rois[:, 3:] - rois[:, 1:3]).amax(1) / 8 > 6
    assert 0 < large.sum() < 24
    slow = torch.stack(
        [
            roi_align(features, roi[None], 12 if big else 6, 1 / 8, sampling_ratio=1, aligned=True).amax(
                (2, 3)
            )[0]
            for roi, big in zip(rois, large, strict=True)
        ]
    )
    fast = tower.pool(features, rois)
    assert torch.allclose(fast, tower.head(slow), atol=1e-5)
    weights = torch.randn(fast.shape, generator=generator)
    (expected,) = torch.autograd.grad((tower.head(slow) * weights).sum(), features)
    (found,) = torch.autograd.grad((fast * weights).sum(), features)
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradients_reach_every_parameter_of_the_image_tower():
    encoder = ShapesRegions(ShapesClip().image).train()
    out = encoder(torch.randn(2, 3, 64, 64), [torch.tensor([[0.1, 0.1, 0.7, 0.8]])] * 2)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_unknown_words_have_vectors_of_their_own(teacher):
    unit = torch.nn.functional.normalize(teacher.encode_text(["zyxwv", "qqqppp", "a star"]), dim=1)
    assert (unit @ unit.T)[0, 1] < 0.999
    assert words_of("Ice-cream, 2 CATS!") == ["ice", "cream", "2", "cats"]


def test_crop_mode_works():
    crops = teachers.load(TeacherSettings(kind="shapes", features="crop"))
    scene = scenes.draw_scene(0, 3)
    regions = crops.encode_regions([scene.image], [scene.boxes_xyxy_norm])
    assert regions[0].shape == (len(scene.kinds), crops.dim)
