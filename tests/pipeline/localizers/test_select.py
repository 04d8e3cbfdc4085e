"""RPN post-processing against a slow twin written from PARITY 10-11 in plain Python."""

import numpy as np
import pytest
import torch

from pipeline.localizers.select import select_proposals


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_selection(levels, width, height, pre_nms_top_n, nms_iou, max_proposals):
    """[(logit, box)] best first; levels: [(boxes, logits)] as nested lists."""
    kept = []
    for level, (boxes, logits) in enumerate(levels):
        ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:pre_nms_top_n]
        chosen = []
        for i in ranked:
            x0, y0, x1, y1 = boxes[i]
            box = [
                min(max(x0, 0), width),
                min(max(y0, 0), height),
                min(max(x1, 0), width),
                min(max(y1, 0), height),
            ]
            if box[2] - box[0] <= 0 or box[3] - box[1] <= 0:
                continue
            if all(iou(box, other) <= nms_iou for _, _, _, other in chosen):
                chosen.append((logits[i], level, len(chosen), box))
        kept += chosen
    kept.sort(key=lambda row: (-row[0], row[1], row[2]))
    return [(row[0], row[3]) for row in kept[:max_proposals]]


def random_levels(rng, counts, width, height):
    levels = []
    for count in counts:
        centre = rng.uniform(-10, [width + 10, height + 10], (count, 2))
        size = rng.exponential(25, (count, 2))
        boxes = np.concatenate([centre - size, centre + size], axis=1).astype(np.float32)
        logits = np.round(rng.normal(-2, 2, count), 2).astype(np.float32)  # rounded: ties occur
        levels.append((boxes, logits))
    return levels


@pytest.mark.parity(10, 11)
@pytest.mark.parametrize("seed", range(6))
def test_selection_equals_the_slow_twin(seed):
    rng = np.random.default_rng(seed)
    width, height = 120, 90
    levels = random_levels(rng, [150, 60, 20, 1, 0], width, height)
    found = select_proposals(
        [(torch.from_numpy(b), torch.from_numpy(s)) for b, s in levels],
        width,
        height,
        pre_nms_top_n=50,
        nms_iou=0.5,
        max_proposals=40,
    )
    slow = slow_selection([(b.tolist(), s.tolist()) for b, s in levels], width, height, 50, 0.5, 40)
    assert len(slow) == len(found.objectness)
    np.testing.assert_allclose(found.objectness, [row[0] for row in slow])
    scale = [width, height, width, height]
    np.testing.assert_allclose(found.boxes_xyxy_norm * scale, [row[1] for row in slow], atol=1e-4)


@pytest.mark.parity(10)
def test_levels_do_not_suppress_each_other():
    box = torch.tensor([[10.0, 10, 50, 50]])
    one = (box, torch.tensor([1.0]))
    two = (box + 0.5, torch.tensor([2.0]))
    options = {"pre_nms_top_n": 10, "nms_iou": 0.5, "max_proposals": 10}
    assert len(select_proposals([one, two], 100, 100, **options).objectness) == 2
    merged = (torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]]))
    assert select_proposals([merged], 100, 100, **options).objectness.tolist() == [2.0]


@pytest.mark.parity(10, 11)
def test_very_low_logits_are_kept_and_stay_raw():
    levels = [(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([-31.5]))]
    found = select_proposals(levels, 10, 10, pre_nms_top_n=5, nms_iou=0.5, max_proposals=5)
    assert found.objectness.tolist() == [-31.5]


@pytest.mark.parity(10)
def test_a_tiny_box_is_kept_and_an_empty_one_is_not():
    boxes = torch.tensor([[1.0, 1, 1.01, 1.01], [3, 3, 3, 8], [5, 5, 4, 8]])
    found = select_proposals(
        [(boxes, torch.tensor([0.0, 1.0, 2.0]))], 10, 10, pre_nms_top_n=5, nms_iou=0.5, max_proposals=5
    )
    assert len(found.objectness) == 1


@pytest.mark.parity(10)
def test_boxes_are_clipped_to_the_image_and_not_to_its_canvas():
    levels = [(torch.tensor([[-5.0, 5, 64, 60]]), torch.tensor([0.0]))]
    found = select_proposals(levels, 50, 40, pre_nms_top_n=5, nms_iou=0.5, max_proposals=5)
    assert found.boxes_xyxy_norm.tolist() == [[0.0, 0.125, 1.0, 1.0]]
