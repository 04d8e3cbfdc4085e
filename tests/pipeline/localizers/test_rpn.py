"""`rpn` against a separately written path through the same weights: torchvision's modules one by one, then the slow
post-processing of test_select."""

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from pipeline import localizers
from pipeline.localizers.settings import LocalizerSettings
from tests.pipeline.localizers.test_select import slow_selection

SIDE = 64


def slow_proposals(model, pixels, width, height, settings):
    """PARITY 10 with loops: raw head outputs, anchors made by hand, boxes decoded one by one."""
    features = list(model.backbone(pixels[None]).values())
    levels = []
    for feature, size in zip(features, (32, 64, 128, 256, 512), strict=True):
        objectness, deltas = (out[0][0] for out in model.rpn.head([feature]))
        rows, columns = feature.shape[-2:]
        stride_y, stride_x = pixels.shape[1] // rows, pixels.shape[2] // columns
        boxes, logits = [], []
        for row in range(rows):
            for column in range(columns):
                for anchor, ratio in enumerate((0.5, 1.0, 2.0)):
                    h = size * np.sqrt(ratio)
                    w = size / np.sqrt(ratio)
                    # torchvision rounds the anchors' corners around the origin.
                    x0, y0, x1, y1 = (np.round(v) for v in (-w / 2, -h / 2, w / 2, h / 2))
                    w, h = x1 - x0, y1 - y0
                    cx, cy = column * stride_x + x0 + w / 2, row * stride_y + y0 + h / 2
                    dx, dy, dw, dh = deltas[4 * anchor : 4 * anchor + 4, row, column].tolist()
                    w2 = w * np.exp(min(dw, np.log(1000 / 16)))
                    h2 = h * np.exp(min(dh, np.log(1000 / 16)))
                    cx, cy = cx + dx * w, cy + dy * h
                    boxes.append([cx - w2 / 2, cy - h2 / 2, cx + w2 / 2, cy + h2 / 2])
                    logits.append(objectness[anchor, row, column].item())
        levels.append((boxes, logits))
    return slow_selection(
        levels, width, height, settings.pre_nms_top_n, settings.nms_iou, settings.max_proposals
    )


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A whole detector with random weights (its deltas have a deviation near 1), saved as a state dict."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    path = tmp_path_factory.mktemp("rpn") / "detector.pth"
    torch.save(model.state_dict(), path)
    return model, str(path)


@pytest.mark.parity(8, 9, 10, 11)
@torch.inference_mode()
def test_proposals_equal_the_slow_reference_on_20_images(
    model_file,
):
    model, path = model_file
    settings = LocalizerSettings(
        kind="rpn", checkpoint=path, image_size=SIDE, max_proposals=300, nms_iou=0.5, pre_nms_top_n=1000
    )
    localizer = localizers.load(settings)
    rng = np.random.default_rng(0)
    for index in range(20):
        height, width = (
            (SIDE, int(rng.integers(SIDE, 107))) if index % 2 else (int(rng.integers(SIDE, 107)), SIDE)
        )
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (found,) = localizer([image])
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3))
        canvas[:height, :width] = (image / 255 - mean) / std
        slow = slow_proposals(
            model, torch.from_numpy(canvas).permute(2, 0, 1).float(), width, height, settings
        )
        assert len(found.objectness) == len(slow)
        np.testing.assert_allclose(found.objectness, [row[0] for row in slow], atol=2e-4)
        got = found.boxes_xyxy_norm * [width, height, width, height]
        # Where two logits are equal to rounding their order may differ; compare as sets of rows then.
        expected = np.asarray([row[1] for row in slow])
        order = np.lexsort(np.round(got, 1).T), np.lexsort(np.round(expected, 1).T)
        np.testing.assert_allclose(got[order[0]].sum(), expected[order[1]].sum(), rtol=1e-4)
        nearest = np.abs(got[:, None] - expected[None]).max(axis=2).min(axis=1)
        assert nearest.max() < 0.05


@pytest.mark.parity(9)
def test_the_regionclip_preset_input_is_800_by_1333_in_multiples_of_32():
    from pipeline.localizers.rpn import TorchvisionRpn

    fit = TorchvisionRpn("fasterrcnn_resnet50_fpn", 0).fit
    assert (fit.short_side, fit.long_side, fit.multiple) == (800, 1333, 32)


def test_v2_architecture_loads_and_proposes():
    settings = LocalizerSettings(
        kind="rpn", checkpoint="random:1", architecture="fasterrcnn_resnet50_fpn_v2", image_size=64
    )
    (found,) = localizers.load(settings)([np.zeros((64, 64, 3), np.uint8)])
    assert len(found.objectness) >= 1


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not weights of this network"):
        localizers.load(LocalizerSettings(kind="rpn", checkpoint=str(path)))
    with pytest.raises(ValueError, match="architecture"):
        localizers.load(LocalizerSettings(kind="rpn", checkpoint="random:0", architecture="yolo"))


def test_describe_names_published_weights_without_loading_them():
    described = localizers.describe(LocalizerSettings(kind="rpn"))
    assert described["weights"].startswith("fasterrcnn_resnet50_fpn_coco-")
    assert described["pre_nms_top_n"] == 1000
