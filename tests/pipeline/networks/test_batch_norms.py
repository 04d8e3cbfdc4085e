"""Frozen batch norms inside the convolutions: the same outputs, gradients and weights as one after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from pipeline.teachers.open_clip_regions import region_encoder
from pipeline.teachers.region_encoder import RegionEncoder
from training.student import Student, load_weights, save_weights

BOXES = [torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.1, 0.3, 0.7, 0.8]]), torch.tensor([[0.2, 0.2, 0.9, 0.6]])]


@pytest.fixture(scope="module")
def encoder() -> RegionEncoder:
    """A small ModifiedResNet whose norms do something."""
    torch.manual_seed(0)
    visual = ModifiedResNet([1, 2, 1, 1], 8, 4, image_size=64, width=16)
    for module in visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return region_encoder(visual)


def _student(encoder: RegionEncoder, **settings) -> Student:
    return Student(copy.deepcopy(encoder), (0.0,) * 3, (1.0,) * 3, **settings).train()


def _run(encoder: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    out = encoder(images, BOXES)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return out.detach(), {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}


def test_outputs_and_gradients_are_those_of_the_norms(encoder):
    plain = copy.deepcopy(encoder).eval()
    want, want_gradients = _run(plain)
    found, gradients = _run(_student(encoder, freeze=("conv1", "layer1")).encoder)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    norms = {f"{n}." for n, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)}
    trained = {
        n
        for n in want_gradients
        if not n.startswith(tuple(norms)) and not n.startswith(("visual.conv1.", "visual.layer1."))
    }
    assert set(gradients) == trained
    for name in trained:
        torch.testing.assert_close(gradients[name], want_gradients[name], rtol=1e-3, atol=1e-4)


def test_weights_keep_their_names_and_values(encoder, tmp_path):
    student = _student(encoder)
    assert list(student.encoder.state_dict()) == list(encoder.state_dict())
    save_weights(student.encoder, tmp_path / "w.safetensors")
    again = copy.deepcopy(encoder)
    nn.init.zeros_(again.visual.conv1.weight)
    load_weights(again, tmp_path / "w.safetensors")
    torch.testing.assert_close(_run(again.eval())[0], _run(encoder.eval())[0], rtol=0, atol=0)


def test_a_copy_has_norms_of_its_own(encoder):
    student = _student(encoder)
    before = _run(student.encoder)[0]
    nn.init.zeros_(copy.deepcopy(student).encoder.visual.bn1.weight)
    torch.testing.assert_close(_run(student.encoder)[0], before, rtol=0, atol=0)
    nn.init.zeros_(student.encoder.visual.bn1.weight)
    assert not torch.allclose(_run(student.encoder)[0], before)


def test_norms_that_train_are_left_alone(encoder):
    student = _student(encoder, freeze_batchnorm=False)
    mean = student.encoder.visual.bn1.running_mean.clone()
    _run(student.encoder)
    assert not torch.equal(student.encoder.visual.bn1.running_mean, mean)
