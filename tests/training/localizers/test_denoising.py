"""Denoising queries: no leak to the matching queries or between groups, and noise within its bounds."""

import pytest
import torch

from pipeline.localizers.set_network import Denoising, corners
from pipeline.localizers.set_predictors import build
from pipeline.localizers.set_shape import SetShape
from training.localizers.denoising import denoising_queries, hidden_pairs, noise_boxes
from training.localizers.settings import DenoisingSettings

SHAPE = SetShape(
    queries=6, short_side=64, width=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=3
)
PER_GROUP, GROUPS = 3, 4
COUNT = PER_GROUP * GROUPS


@pytest.fixture(scope="module")
def network():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    built = build("dn-detr", SHAPE).eval()
    with torch.no_grad():  # the box head starts at zero, which would hide a leak through the anchors
        for parameter in built.box_head.parameters():
            parameter.normal_(std=0.3)
    return built


@pytest.fixture(scope="module")
def memory():
    return torch.randn(2, 272, 4, 4, generator=torch.Generator().manual_seed(1))


def queries(seed: int, hidden=None) -> Denoising:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(2, COUNT, 4, generator=generator) * 0.4 + 0.2
    labels = torch.randint(0, 2, (2, COUNT), generator=generator)
    return Denoising(
        labels, boxes, hidden_pairs(PER_GROUP, GROUPS, SHAPE.queries) if hidden is None else hidden
    )


@torch.no_grad()
def test_denoising_queries_do_not_reach_the_matching_ones(network, memory):
    first, second = network(memory, queries(2)), network(memory, queries(3))
    assert torch.equal(first.logits[:, :, COUNT:], second.logits[:, :, COUNT:])
    assert torch.equal(first.boxes[:, :, COUNT:], second.boxes[:, :, COUNT:])
    assert not torch.allclose(first.boxes[:, :, :COUNT], second.boxes[:, :, :COUNT])
    # ... and the matching part is what it would be without them (training and prediction agree).
    alone = network(memory)
    torch.testing.assert_close(first.logits[:, :, COUNT:], alone.logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_groups_do_not_see_each_other(network, memory):
    base = queries(2)
    changed = Denoising(base.labels.clone(), base.boxes.clone(), base.hidden)
    changed.boxes[:, :PER_GROUP] = 0.9 - changed.boxes[:, :PER_GROUP]
    changed.labels[:, :PER_GROUP] = 1 - changed.labels[:, :PER_GROUP]
    one, two = network(memory, base), network(memory, changed)
    assert torch.equal(one.logits[:, :, PER_GROUP:], two.logits[:, :, PER_GROUP:])
    assert torch.equal(one.boxes[:, :, PER_GROUP:], two.boxes[:, :, PER_GROUP:])
    assert not torch.allclose(one.boxes[:, :, :PER_GROUP], two.boxes[:, :, :PER_GROUP])


@torch.no_grad()
def test_within_a_group_queries_see_each_other_and_the_matching_ones(network, memory):
    base = queries(2)
    changed = Denoising(base.labels.clone(), base.boxes.clone(), base.hidden)
    changed.labels[:, 0] = 1 - changed.labels[:, 0]
    one, two = network(memory, base), network(memory, changed)
    assert not torch.equal(one.logits[-1, :, 1], two.logits[-1, :, 1])


@torch.no_grad()
def test_without_the_mask_there_is_a_leak(network, memory):
    """The tests above can fail: with nothing hidden the matching outputs do change."""
    open_mask = torch.zeros(COUNT + SHAPE.queries, COUNT + SHAPE.queries, dtype=torch.bool)
    one, two = network(memory, queries(2, open_mask)), network(memory, queries(3, open_mask))
    assert not torch.allclose(one.logits[:, :, COUNT:], two.logits[:, :, COUNT:])


def test_no_gradient_flows_from_the_matching_outputs_to_denoising_queries(network, memory):
    made = queries(2)
    boxes = made.boxes.clone().requires_grad_()
    out = network(memory, Denoising(made.labels, boxes, made.hidden))
    out.logits[:, :, COUNT:].sum().backward()
    assert boxes.grad is None or not boxes.grad.any()


def test_mask_layout_by_hand():
    hidden = hidden_pairs(per_group=1, groups=2, queries=2)
    # rows: group 0, group 1, two matching queries
    assert hidden.tolist() == [
        [False, True, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [True, True, False, False],
    ]


def test_noise_stays_within_its_bounds():
    settings = DenoisingSettings(shift=0.4, scale=0.3)
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.4]).expand(5000, 4)
    noised = noise_boxes(boxes, settings, torch.Generator().manual_seed(0))
    moved = (noised[:, :2] - boxes[:, :2]).abs()
    assert (moved <= 0.4 * boxes[:, 2:] / 2 + 1e-6).all()
    factor = noised[:, 2:] / boxes[:, 2:]
    assert factor.min() >= 0.7 - 1e-5
    assert factor.max() <= 1.3 + 1e-5
    assert factor.std() > 0.1
    centre_inside = corners(boxes)
    assert ((noised[:, :2] > centre_inside[:, :2]) & (noised[:, :2] < centre_inside[:, 2:])).all()


def test_queries_restore_the_box_they_were_made_from():
    objects = [torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.1, 0.1]]), torch.zeros(0, 4)]
    settings = DenoisingSettings(groups=3, flip=0.5)
    made = denoising_queries(objects, 6, settings, torch.Generator().manual_seed(0))
    assert made is not None
    queries_, targets = made
    assert queries_.boxes.shape == (2, 6, 4)
    assert targets.real.tolist() == [[True] * 6, [False] * 6]
    assert torch.equal(targets.boxes[0], objects[0].repeat(3, 1))
    assert not torch.equal(queries_.boxes[0], targets.boxes[0])
    assert set(queries_.labels.unique().tolist()) == {0, 1}
    again = denoising_queries(objects, 6, settings, torch.Generator().manual_seed(0))
    assert again is not None
    assert torch.equal(again[0].boxes, queries_.boxes)


def test_without_any_object_there_are_filler_queries_alone():
    made = denoising_queries([torch.zeros(0, 4)] * 2, 6, DenoisingSettings(groups=3), torch.Generator())
    assert made is not None
    assert made[0].boxes.shape == (2, 3, 4)
    assert not made[1].real.any()
    assert denoising_queries([torch.zeros(1, 4)], 6, DenoisingSettings(groups=0), torch.Generator()) is None
