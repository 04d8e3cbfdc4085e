from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.networks.region_geometry import rois_of
from pipeline.teachers.open_clip_regions import region_encoder
from pipeline.teachers.region_encoder import UnsupportedTowerError
from tests.pipeline.teachers import towers

TOWERS = [towers.resnet, towers.vit, towers.siglip, towers.convnext]
BOXES = [
    torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.1, 0.3, 0.9, 1.0], [0.5, 0.52, 1.0, 1.0]]),
    torch.tensor([[0.2, 0.3, 0.25, 0.32]]),
    torch.zeros(0, 4),
]


def slow_roi_align(features: np.ndarray, box: list[float], bins: int) -> np.ndarray:
    """RoIAlign of one box in cells of the map [C, h, w], by its definition (He et al. 2017), aligned, adaptive samples."""
    channels, height, width = features.shape
    x0, y0, x1, y1 = (v - 0.5 for v in box)
    bin_w, bin_h = (x1 - x0) / bins, (y1 - y0) / bins
    nx, ny = max(1, math.ceil(bin_w)), max(1, math.ceil(bin_h))
    out = np.zeros((channels, bins, bins))
    for i in range(bins):
        for j in range(bins):
            for sy in range(ny):
                for sx in range(nx):
                    y = min(max(y0 + (i + (sy + 0.5) / ny) * bin_h, 0.0), height - 1.0)
                    x = min(max(x0 + (j + (sx + 0.5) / nx) * bin_w, 0.0), width - 1.0)
                    ya, xa = math.floor(y), math.floor(x)
                    yb, xb = min(ya + 1, height - 1), min(xa + 1, width - 1)
                    fy, fx = y - ya, x - xa
                    out[:, i, j] += (
                        (1 - fy) * ((1 - fx) * features[:, ya, xa] + fx * features[:, ya, xb])
                        + fy * ((1 - fx) * features[:, yb, xa] + fx * features[:, yb, xb])
                    ) / (nx * ny)
    return out


@pytest.mark.parity(17, 18)
@torch.no_grad()
def test_resnet_regions_equal_one_region_at_a_time():
    visual = towers.resnet()
    encoder = region_encoder(visual)
    image = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    map_ = visual.layer3(visual.layer2(visual.layer1(visual.stem(image))))[0].double().numpy()
    slow = []
    for box in BOXES[0].tolist():
        cells = [box[0] * 10, box[1] * 6, box[2] * 10, box[3] * 6]
        patch = torch.from_numpy(slow_roi_align(map_, cells, 4)).float()[None]
        slow.append(visual.attnpool(visual.layer4(patch))[0])
    fast = encoder(image, BOXES[:1])
    assert fast.shape == (3, 24)
    torch.testing.assert_close(fast, torch.stack(slow), rtol=1e-4, atol=1e-4 * float(fast.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("tower", [towers.resnet, towers.convnext])
def test_a_full_box_gives_the_models_own_embedding(tower):
    visual = tower()
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    full = [torch.tensor([[0.0, 0.0, 1.0, 1.0]])] * 2
    torch.testing.assert_close(region_encoder(visual)(image, full), visual(image), rtol=1e-4, atol=1e-5)


def slow_value_path(visual: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Dense ViT features [N, D]: the last attention with a mask that lets every token see only itself."""
    x = visual._embeds(image)
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    alone = torch.full((x.shape[1], x.shape[1]), float("-inf")).fill_diagonal_(0.0)
    x = visual.transformer.resblocks[-1](x, attn_mask=alone)
    return F.normalize(visual.ln_post(x)[0, 1:] @ visual.proj, dim=-1)


@torch.no_grad()
def test_vit_regions_equal_attention_to_oneself_and_a_loop_over_boxes():
    visual = towers.vit()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    dense = slow_value_path(visual, image).T.reshape(-1, 4, 4).double().numpy()
    slow = [slow_roi_align(dense, [4 * v for v in box], 1)[:, 0, 0] for box in BOXES[0].tolist()]
    fast = region_encoder(visual)(image, BOXES[:1])
    torch.testing.assert_close(fast, torch.from_numpy(np.stack(slow)).float(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_siglip_regions_equal_its_own_pool_on_one_token():
    visual = towers.siglip()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    tokens = visual.trunk.forward_features(image)
    alone = torch.cat([visual.trunk.attn_pool(tokens[:, i : i + 1]) for i in range(tokens.shape[1])])
    dense = F.normalize(alone, dim=-1).T.reshape(-1, 4, 4).double().numpy()
    slow = [slow_roi_align(dense, [4 * v for v in box], 1)[:, 0, 0] for box in BOXES[0].tolist()]
    fast = region_encoder(visual)(image, BOXES[:1])
    torch.testing.assert_close(fast, torch.from_numpy(np.stack(slow)).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parity(16)
@torch.no_grad()
@pytest.mark.parametrize("tower", TOWERS)
def test_a_padded_batch_equals_one_image_at_a_time(tower):
    encoder = region_encoder(tower())
    generator = torch.Generator().manual_seed(2)
    images = [torch.randn(3, h, w, generator=generator) for h, w in [(64, 128), (96, 96), (64, 64)]]
    canvas = torch.full((3, 3, 96, 128), 9.0)  # what lies outside must not matter
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    sizes = torch.tensor([image.shape[1:] for image in images])
    together = encoder(canvas, BOXES, sizes)
    alone = torch.cat([encoder(image[None], [boxes]) for image, boxes in zip(images, BOXES, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(70, 129), (95, 97), (66, 100)])
def test_resnet_padding_is_masked_at_odd_sizes_too(size):
    encoder = region_encoder(towers.resnet())
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(3))
    canvas = F.pad(image, (0, 160 - size[1], 0, 128 - size[0]), value=5.0)
    together = encoder(canvas, BOXES[:1], torch.tensor([size]))
    torch.testing.assert_close(together, encoder(image, BOXES[:1]), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_unmasked_resnet_sees_its_padding():
    from pipeline.teachers.resnet_regions import ResNetRegions

    image = F.pad(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)), (0, 64))
    size = torch.tensor([[64, 64]])
    visual = towers.resnet()
    masked, bleeding = ResNetRegions(visual), ResNetRegions(visual, mask_padding=False)
    right_edge = [torch.tensor([[0.5, 0.0, 1.0, 1.0]])]
    assert (masked(image, right_edge, size) - bleeding(image, right_edge, size)).abs().max() > 1e-3


@pytest.mark.parametrize("tower", TOWERS)
def test_gradients_reach_every_parameter_that_the_output_depends_on(tower):
    encoder = region_encoder(tower())
    out = encoder(torch.randn(1, 3, 64, 96), BOXES[:1])
    out.square().sum().backward()
    unused = {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    # The value path has no use for queries and keys; a softmax ignores what is added to all of its logits alike.
    allowed = ("attn.in_proj", "latent", "attn_pool.q.", "attnpool.k_proj.bias", "class_embedding")
    assert all(any(a in name for a in allowed) for name in unused), unused


@torch.no_grad()
def test_a_training_batch_norm_takes_its_statistics_from_regions():
    visual = towers.resnet()
    encoder = region_encoder(visual)
    visual.layer4[0].bn1.train()
    image = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    map_ = visual.layer3(visual.layer2(visual.layer1(visual.stem(image))))[0].double().numpy()
    cells = [[b[0] * 10, b[1] * 6, b[2] * 10, b[3] * 6] for b in BOXES[0].tolist()]
    patches = torch.from_numpy(np.stack([slow_roi_align(map_, c, 4) for c in cells])).float()
    slow = visual.attnpool(visual.layer4(patches))
    torch.testing.assert_close(encoder(image, BOXES[:1]), slow, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_chunk_of_regions_does_not_change_an_embedding():
    encoder = region_encoder(towers.resnet())
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(4))
    whole = encoder(image, BOXES[:1])
    encoder.region_chunk = 1
    torch.testing.assert_close(encoder(image, BOXES[:1]), whole, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_positions_are_interpolated_where_the_grid_differs():
    from pipeline.teachers.resnet_regions import ResNetRegions

    visual = towers.resnet()
    finer = ResNetRegions(visual, region_grid=8)  # the pool has 2 x 2 positions, the regions 4 x 4 cells
    out = finer(torch.randn(1, 3, 96, 96), BOXES[:1])
    assert out.shape == (3, 24)
    assert bool(torch.isfinite(out).all())


def test_no_boxes_give_an_empty_result_that_can_be_trained_on():
    encoder = region_encoder(towers.resnet())
    out = encoder(torch.randn(1, 3, 64, 64), [torch.zeros(0, 4)])
    assert out.shape == (0, 24)
    out.sum().backward()


def test_boxes_are_scaled_by_the_true_size_not_by_the_canvas():
    rois = rois_of([torch.tensor([[0.0, 0.5, 1.0, 1.0]])], torch.tensor([[64, 96]]))
    assert rois.tolist() == [[0.0, 0.0, 32.0, 96.0, 64.0]]


def test_an_unknown_tower_is_refused_by_name():
    with pytest.raises(UnsupportedTowerError, match="Linear"):
        region_encoder(nn.Linear(2, 2))
