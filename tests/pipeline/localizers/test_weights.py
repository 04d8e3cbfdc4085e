"""Weights files: round trips, the shipped ones, and files that are none."""

import hashlib

import numpy as np
import pytest
import torch

import storage
from pipeline import localizers
from pipeline.localizers.rpn_lite import RpnLite
from pipeline.localizers.set_predictors import build
from pipeline.localizers.set_shape import SetShape
from pipeline.localizers.settings import LocalizerSettings
from pipeline.networks.batch_norms import fold_batch_norms
from pipeline.networks.weights_files import parse, serialise, shipped

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
SHIPPED = ("rpn-lite", "detr", "dab-detr", "dn-detr")
SMALL = SetShape(
    queries=7, short_side=64, width=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=2
)


@pytest.mark.parametrize("kind", ["detr", "dab-detr", "dn-detr"])
def test_a_saved_set_predictor_loads_with_its_own_shape(kind, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(build(kind, SMALL).weights_file(kind))
    settings = LocalizerSettings(kind=kind, checkpoint=str(path))
    (found,) = localizers.load(settings)([IMAGE])
    assert 1 <= len(found.objectness) <= 7
    assert localizers.describe(settings)["weights"] == hashlib.sha256(path.read_bytes()).hexdigest()
    other = "detr" if kind != "detr" else "dn-detr"
    with pytest.raises(ValueError, match=f"weights of '{kind}', not of '{other}'"):
        localizers.load(LocalizerSettings(kind=other, checkpoint=str(path)))


def test_rpn_lite_weights_round_trip_and_have_the_same_bytes_twice(tmp_path):
    torch.manual_seed(0)
    network = RpnLite()
    data = serialise(network, {"short_side": "96"}, torch.float16)
    assert data == serialise(network, {"short_side": "96"}, torch.float16)
    (tmp_path / "w.safetensors").write_bytes(data)
    settings = LocalizerSettings(checkpoint=str(tmp_path / "w.safetensors"))
    localizer = localizers.load(settings)
    assert localizer.network.fit.short_side == 96
    assert len(localizer([IMAGE])[0].objectness) > 1


def test_folding_batch_norms_changes_nothing():
    torch.manual_seed(0)
    network = RpnLite(64).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        before = network(pixels)
        fold_batch_norms(network)
        after = network(pixels)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    for (logits, boxes), (fused_logits, fused_boxes) in zip(before, after, strict=True):
        torch.testing.assert_close(logits, fused_logits, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(boxes, fused_boxes, atol=1e-2, rtol=1e-3)


def test_a_damaged_file_is_refused_with_its_name(tmp_path):
    path = tmp_path / "w.safetensors"
    whole = storage.read_bytes(shipped("pipeline.localizers", "rpn-lite"))
    for damaged in (whole[: len(whole) // 2], b"", b"not weights at all"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"w\.safetensors"):
            localizers.load(LocalizerSettings(checkpoint=str(path)))


def test_a_pickle_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    path = tmp_path / "evil.pth"
    torch.save({"x": Evil()}, path)
    with pytest.raises(Exception, match=r"weights_only|Unsupported|not a"):
        localizers.load(LocalizerSettings(kind="rpn", checkpoint=str(path)))
    assert not (tmp_path / "pwned").exists()


def test_every_shipped_file_is_small_and_loads():
    for kind in SHIPPED:
        name = shipped("pipeline.localizers", kind)
        data = storage.read_bytes(name)
        assert len(data) < 12 << 20
        tensors, metadata = parse(data, name)
        assert metadata["localizer"] == kind
        assert all(torch.isfinite(t).all() for t in tensors.values())
        localizers.load(LocalizerSettings(kind=kind))


def test_random_weights_depend_on_their_seed_alone():
    one, two, other = (
        localizers.load(LocalizerSettings(kind="dn-detr", checkpoint=f"random:{s}"))([IMAGE])[0]
        for s in (1, 1, 2)
    )
    assert np.array_equal(one.boxes_xyxy_norm, two.boxes_xyxy_norm)
    assert not np.array_equal(one.boxes_xyxy_norm, other.boxes_xyxy_norm)
