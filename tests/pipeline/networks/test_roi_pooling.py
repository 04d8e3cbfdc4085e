"""RoIAlign and its gradient against torchvision's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops

from pipeline.networks.roi_pooling import bin_weights, roi_align


def _rois(seed: int, count: int, height: float, width: float, beyond: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator) * (1 + 2 * beyond) - beyond
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    boxes = torch.cat([low, high], dim=1) * torch.tensor([width, height, width, height])
    return torch.cat([torch.randint(0, 2, (count, 1), generator=generator).float(), boxes], dim=1)


@pytest.mark.parametrize("average", [1, 2])
@pytest.mark.parametrize("beyond", [0.0, 0.3])
@pytest.mark.parametrize(("height", "width", "grid"), [(13, 9, 14), (40, 31, 7), (3, 50, 2)])
def test_values_and_gradients_are_torchvisions(height, width, grid, beyond, average):
    features = torch.randn(2, 5, height, width, generator=torch.Generator().manual_seed(1))
    rois = _rois(grid, 23, height * 16, width * 16, beyond)
    rois[0, 1:] = torch.tensor([0, 0, width * 16, height * 16])  # the whole image
    rois[1, 3] = rois[1, 1]  # nothing
    upstream = torch.randn(len(rois), 5, grid // average, grid // average)
    found = []
    for align in (
        lambda x: roi_align(x, rois, grid, 16, average),
        lambda x: F.avg_pool2d(ops.roi_align(x, rois, grid, 1 / 16, sampling_ratio=0, aligned=True), average),
    ):
        x = features.clone().requires_grad_()
        out = align(x)
        (out * upstream).sum().backward()
        found.append((out.detach(), x.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


def test_a_bin_is_a_mean_inside_the_map():
    low, high = torch.tensor([2.0, 0.0]), torch.tensor([11.0, 19.5])
    torch.testing.assert_close(bin_weights(low, high, 7, 20).sum(dim=2), torch.ones(2, 7))


def test_without_regions_the_gradient_is_zero():
    x = torch.ones(1, 2, 4, 4, requires_grad=True)
    (roi_align(x, torch.zeros(0, 5), 3, 16).sum() + 0 * x.sum()).backward()
    assert (x.grad == 0).all()
