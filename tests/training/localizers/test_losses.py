"""Matching and losses against slow twins."""

import itertools

import pytest
import torch

from pipeline.localizers.rpn_lite import level_centres
from pipeline.localizers.set_network import SetPrediction
from training.localizers.dense_loss import assign, dense_loss, ignored_cells, paired_iou
from training.localizers.matching import instability, match, matching_cost
from training.localizers.set_loss import set_loss


def test_matching_is_the_cheapest_of_all_assignments():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        logits = torch.randn(5, generator=generator)
        boxes = torch.rand(5, 4, generator=generator) * 0.5 + 0.2
        objects = torch.rand(3, 4, generator=generator) * 0.5 + 0.2
        cost = matching_cost(logits, boxes, objects)
        best = min(
            itertools.permutations(range(5), 3), key=lambda q: sum(float(cost[i, j]) for j, i in enumerate(q))
        )
        other = torch.rand(4, 4, generator=generator) * 0.5 + 0.2  # an image beside it changes nothing
        owner = match(torch.stack([logits, logits]), torch.stack([boxes, boxes]), [objects, other])[0]
        assert [int((owner == j).nonzero()) for j in range(3)] == list(best)
        assert int((owner == -1).sum()) == 2


def test_more_objects_than_queries_leave_objects_unmatched():
    owner = match(torch.zeros(1, 2), torch.rand(1, 2, 4) * 0.2 + 0.4, [torch.rand(5, 4) * 0.2 + 0.4])
    assert (owner >= 0).all()


def test_a_perfect_prediction_costs_nearly_nothing():
    objects = [torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.3]])]
    boxes = torch.cat([objects[0], torch.tensor([[0.5, 0.5, 0.9, 0.9]])])[None, None]
    good = set_loss(SetPrediction(torch.tensor([[[9.0, 9.0, -9.0]]]), boxes), objects)
    assert sum(float(v) for v in good.values()) < 0.01
    wrong = set_loss(SetPrediction(torch.tensor([[[-9.0, -9.0, 9.0]]]), boxes), objects)
    assert float(wrong["objectness"]) > 1


def test_an_image_without_objects_only_lowers_objectness():
    logits = torch.zeros(2, 1, 4, requires_grad=True)
    boxes = torch.full((2, 1, 4, 4), 0.5)
    terms = set_loss(SetPrediction(logits, boxes), [torch.zeros(0, 4)])
    assert float(terms["l1"]) == 0
    assert float(terms["giou"]) == 0
    sum(terms.values()).backward()
    assert (logits.grad > 0).all()


def test_instability_counts_queries_whose_object_changed():
    before = [torch.tensor([0, 1, -1, -1]), torch.tensor([-1, 0])]
    after = [torch.tensor([0, -1, 1, -1]), torch.tensor([-1, 0])]
    # matched in either: queries 0, 1, 2 of the first image, query 1 of the second; 1 and 2 changed.
    assert instability(before, after) == pytest.approx(2 / 4)


def slow_owner(x, y, boxes, stride, reach, radius):
    best, best_area = -1, float("inf")
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        sides = [x - x0, y - y0, x1 - x, y1 - y]
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        near = max(abs(x - middle[0]), abs(y - middle[1])) <= radius * stride
        inside = min(sides) > 0 or (min(sides) > -stride / 2 and max(sides) < 2 * stride)
        area = (x1 - x0) * (y1 - y0)
        if near and inside and reach[0] <= max(sides) <= reach[1] and area < best_area:
            best, best_area = index, area
    return best


def test_assignment_equals_its_slow_twin():
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(12, 2, generator=generator) * 96
    size = torch.rand(12, 2, generator=generator) * 40 + 1
    boxes = torch.cat([centre - size, centre + size], dim=1)
    for stride, reach in ((8, (0.0, 40.0)), (16, (20.0, 200.0))):
        cells = level_centres(96 // stride, 96 // stride, stride, torch.device("cpu"))
        fast = assign(cells, boxes, stride, reach).tolist()
        slow = [slow_owner(x, y, boxes.tolist(), stride, reach, 1.5) for x, y in cells.tolist()]
        assert fast == slow
        assert max(fast) >= 0


def test_every_small_object_has_a_cell_that_answers():
    cells = level_centres(8, 8, 8, torch.device("cpu"))
    for x in range(3, 60):
        box = torch.tensor([[x - 1.5, 20.0, x + 1.5, 23.0]])
        assert (assign(cells, box, 8, (0.0, 48.0)) >= 0).any(), x


def test_crowds_are_no_background():
    cells = torch.tensor([[5.0, 5], [50, 50]])
    assert ignored_cells(cells, torch.tensor([[0.0, 0, 10, 10]])).tolist() == [True, False]
    logits = torch.zeros(1, 2, requires_grad=True)
    boxes = (torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1, 1]]]) + 0.0).requires_grad_()
    terms = dense_loss(
        [(logits, boxes)] + [(torch.zeros(1, 0), torch.zeros(1, 0, 4))] * 3,
        [cells] + [torch.zeros(0, 2)] * 3,
        (8, 16, 32, 64),
        [torch.zeros(0, 4)],
        [torch.tensor([[0.0, 0, 10, 10]])],
    )
    terms["objectness"].backward()
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] > 0


def test_paired_iou_by_hand():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[1.0, 1, 3, 3], [5, 5, 6, 6]])
    torch.testing.assert_close(paired_iou(a, b), torch.tensor([1 / 7, 0.0]))
