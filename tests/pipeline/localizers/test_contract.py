"""Every localizer keeps the contract of `Localizer`, on hostile images too."""

import numpy as np
import pytest
import torch

from pipeline import localizers
from pipeline.localizers.network import NetworkLocalizer
from pipeline.localizers.rpn_lite import RpnLite
from pipeline.localizers.select import FALLBACK_LOGIT
from pipeline.localizers.settings import LocalizerSettings

CHEAP = {
    "grid": LocalizerSettings(kind="grid", max_proposals=37),
    "rpn-lite": LocalizerSettings(kind="rpn-lite", max_proposals=37),
    "rpn": LocalizerSettings(kind="rpn", checkpoint="random:3", image_size=64, max_proposals=37),
    "detr": LocalizerSettings(kind="detr", checkpoint="random:4", max_proposals=37),
    "dab-detr": LocalizerSettings(kind="dab-detr", checkpoint="random:4", max_proposals=37),
    "dn-detr": LocalizerSettings(kind="dn-detr", checkpoint="random:4", max_proposals=37),
}
HOSTILE = {
    "empty": (0, 0),
    "no rows": (0, 5),
    "one pixel": (1, 1),
    "two thousand to one": (2, 4000),
    "one to two thousand": (4000, 2),
    "portrait": (90, 40),
}


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def check(found: localizers.Proposals, max_proposals: int) -> None:
    boxes, scores = found.boxes_xyxy_norm, found.objectness
    assert boxes.dtype == np.float32
    assert scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4)
    assert 1 <= len(scores) <= max_proposals
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(scores) <= 0).all()


@pytest.fixture(scope="module", params=sorted(CHEAP))
def loaded(request):
    torch.set_num_threads(1)
    settings = CHEAP[request.param]
    return localizers.load(settings), settings


@pytest.mark.parametrize("shape", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_images_get_valid_boxes(loaded, shape):
    localizer, settings = loaded
    (found,) = localizer([photo(*shape)])
    check(found, settings.max_proposals)


def test_a_batch_equals_one_at_a_time(loaded):
    localizer, settings = loaded
    images = [photo(60, 80), photo(80, 60, 1), photo(61, 83, 2), photo(0, 0), photo(60, 80, 3)]
    together = localizer(images)
    assert len(together) == len(images)
    for image, found in zip(images, together, strict=True):
        check(found, settings.max_proposals)
        (alone,) = localizer([image])
        assert np.array_equal(found.boxes_xyxy_norm, alone.boxes_xyxy_norm)
        assert np.array_equal(found.objectness, alone.objectness)


def test_padding_does_not_leak_between_images_that_share_a_pass():
    """A pass of several images (as on a GPU) gives each what it gets alone, to rounding."""
    torch.manual_seed(0)
    network = RpnLite(64).eval()
    options = {"pre_nms_top_n": 1000, "nms_iou": None, "max_proposals": 50}
    shared = NetworkLocalizer(network, "cpu", **options)
    shared._batch_images = 8
    alone = NetworkLocalizer(network, "cpu", **options)
    # Different images, one canvas: 60 x 90 and 61 x 96 both land on 64 x 96.
    images = [photo(60, 90), photo(64, 96, 1), photo(62, 92, 2)]
    for a, b in zip(shared(images), [alone([i])[0] for i in images], strict=True):
        np.testing.assert_allclose(a.objectness, b.objectness, atol=1e-4)


def test_no_images_give_no_proposals(loaded):
    assert loaded[0]([]) == []


def test_something_that_is_no_image_is_refused():
    localizer = localizers.load(CHEAP["rpn-lite"])
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        localizer([np.zeros((4, 4), np.uint8)])
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        localizer([np.zeros((4, 4, 3), np.float32)])


def test_a_network_that_gives_nan_gives_the_whole_image():
    class Broken:
        fit = RpnLite(64).fit

        def propose(self, pixels, sizes):
            nan = torch.full((5, 4), float("nan"))
            return [
                [(nan, torch.zeros(5)), (torch.rand(3, 4), torch.full((3,), float("nan")))] for _ in sizes
            ]

    localizer = NetworkLocalizer(Broken(), "cpu", pre_nms_top_n=10, nms_iou=0.5, max_proposals=5)
    (found,) = localizer([photo(8, 8)])
    assert found.boxes_xyxy_norm.tolist() == [[0, 0, 1, 1]]
    assert found.objectness.tolist() == [FALLBACK_LOGIT]


def test_the_caller_can_not_change_global_random_state():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    localizers.load(CHEAP["rpn"])([photo(20, 20)])
    localizers.load(LocalizerSettings(checkpoint="random:5"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_kind_names_the_kinds():
    with pytest.raises(ValueError, match=r"localizer.kind: 'yolo' is not known \(grid, rpn-lite"):
        LocalizerSettings(kind="yolo")


@pytest.mark.parametrize(
    "bad", [{"max_proposals": 0}, {"nms_iou": 0.0}, {"pre_nms_top_n": 0}, {"image_size": -1}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        LocalizerSettings(**bad)
