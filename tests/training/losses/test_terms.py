"""The losses against slow closed forms, written loop by loop from the papers' equations."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from training.losses import terms


def _unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=1)


def _topk(q: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    probs, ids = q.topk(k, dim=1)
    return ids, probs, 1 - probs.sum(dim=1)


@pytest.mark.parity(25)
def test_vectors_are_normalised_whatever_their_length():
    s, e = _unit(4, 8), _unit(5, 8, seed=1)
    plain = terms.concept_logits(s, e, 0.01)
    scaled = terms.concept_logits(s * 7.0, e * torch.arange(1, 6)[:, None], 0.01)
    torch.testing.assert_close(plain, scaled, atol=1e-4, rtol=0)
    n, m = _unit(3, 8, seed=2), _unit(3, 8, seed=3)
    torch.testing.assert_close(terms.image_text(n, m, 0.1), terms.image_text(9 * n, 0.2 * m, 0.1))


@pytest.mark.parity(27)
def test_region_contrastive_equals_the_paper_s_sum_over_regions():
    s, e, tau = _unit(6, 8), _unit(5, 8, seed=1), 0.1
    labels = torch.tensor([0, 3, 3, 1, 0, 3])
    expected = []
    for i in range(6):
        values = [math.exp(float(s[i] @ e[labels[j]]) / tau) for j in range(6)]
        positive = sum(v for j, v in enumerate(values) if labels[j] == labels[i])
        expected.append(-math.log(positive / sum(values)))
    counts = torch.bincount(labels, minlength=5)
    got = terms.region_contrastive(terms.concept_logits(s, e, tau), labels, counts)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-5)


@pytest.mark.parity(28)
def test_region_contrastive_weighs_concepts_by_frequency():
    s, e, tau = _unit(5, 8), _unit(4, 8, seed=1), 0.2
    labels = torch.tensor([2, 2, 2, 0, 1])
    n = torch.bincount(labels, minlength=4).double()
    weight = n * torch.exp(s @ e.T / tau)
    expected = -torch.log(weight.gather(1, labels[:, None])[:, 0] / weight.sum(dim=1))
    logits = terms.concept_logits(s, e, tau)
    torch.testing.assert_close(
        terms.region_contrastive(logits, labels, n), expected.float(), atol=1e-5, rtol=1e-5
    )
    once = terms.region_contrastive(logits, labels, (n > 0).double())
    plain = torch.nn.functional.cross_entropy(logits[:, :3], labels, reduction="none")
    torch.testing.assert_close(once, plain)
    assert not torch.allclose(once, expected.float(), atol=1e-3)


@pytest.mark.parity(29)
def test_a_concept_that_no_region_has_is_no_negative():
    logits = torch.tensor([[1.0, 50.0, 0.0]], requires_grad=True)
    loss = terms.region_contrastive(logits, torch.tensor([0]), torch.tensor([1, 0, 1]))
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.0)), abs=1e-6)


@pytest.mark.parity(26)
def test_distillation_with_everything_stored_is_the_dense_kl():
    s, e, tau = _unit(6, 8), _unit(5, 8, seed=1), 0.1
    q = (_unit(6, 5, seed=2) * 3).softmax(dim=1)
    p = (s @ e.T / tau).softmax(dim=1)
    expected = [sum(float(q[i, c] * torch.log(q[i, c] / p[i, c])) for c in range(5)) for i in range(6)]
    logits = terms.concept_logits(s, e, tau)
    want = torch.tensor(expected)
    torch.testing.assert_close(terms.dense_distillation(logits, q), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(terms.distillation(logits, *_topk(q, 5)), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parity(24)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(1, 11), st.floats(0.3, 30))
def test_stored_targets_bound_the_dense_kl_from_below(seed: int, c: int, k: int, sharpness: float):
    k = min(k, c)
    generator = torch.Generator().manual_seed(seed)
    q = (sharpness * torch.randn(3, c, generator=generator)).softmax(dim=1)
    logits = sharpness * torch.randn(3, c, generator=generator)
    bucket = terms.distillation(logits, *_topk(q, k))
    dense = terms.dense_distillation(logits, q)
    assert (bucket >= -1e-5).all()
    assert (bucket <= dense + 1e-4 * (1 + dense)).all()
    if k >= c - 1:  # a bucket of one concept loses nothing
        torch.testing.assert_close(bucket, dense, atol=1e-4, rtol=1e-4)


def test_the_gap_is_the_kl_within_the_bucket():
    q = torch.tensor([[0.6, 0.2, 0.15, 0.05]])
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    p = logits.softmax(dim=1)
    rest_q, rest_p = q[:, 2:] / q[:, 2:].sum(), p[:, 2:] / p[:, 2:].sum()
    gap = q[:, 2:].sum() * (rest_q * (rest_q / rest_p).log()).sum()
    bucket = terms.distillation(logits, *_topk(q, 2))
    torch.testing.assert_close(terms.dense_distillation(logits, q) - bucket, gap[None], atol=1e-6, rtol=1e-5)


def test_the_minimum_of_the_bucket_kl_is_at_the_teacher():
    q = (3 * torch.randn(4, 9, generator=torch.Generator().manual_seed(0))).softmax(dim=1)
    logits = q.log().clone().requires_grad_()
    loss = terms.distillation(logits, *_topk(q, 3)).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert gradient.abs().max() < 1e-5


@pytest.mark.parity(26)
def test_half_precision_masses_and_far_concepts_stay_finite():
    e = _unit(6, 8, seed=1)
    s = -e[:1]  # cosine -1 with the teacher's choice: p = exp(-200) underflows in float32
    logits = terms.concept_logits(s, e, 0.01).requires_grad_()
    probs = torch.tensor([[0.9995, 0.0008]], dtype=torch.float16)  # sums to more than one
    residual = torch.tensor([-0.0003], dtype=torch.float16)
    loss = terms.distillation(logits, torch.tensor([[0, 1]]), probs, residual)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert 50 < loss.item() < 250
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < -0.9


@pytest.mark.parity(30)
def test_image_text_is_the_mean_of_both_directions():
    v, t, tau = _unit(4, 8), _unit(4, 8, seed=1), 0.07
    rows = columns = 0.0
    for i in range(4):
        rows -= math.log(math.exp(v[i] @ t[i] / tau) / sum(math.exp(v[i] @ t[j] / tau) for j in range(4))) / 4
        columns -= (
            math.log(math.exp(v[i] @ t[i] / tau) / sum(math.exp(v[j] @ t[i] / tau) for j in range(4))) / 4
        )
    assert terms.image_text(v, t, tau).item() == pytest.approx((rows + columns) / 2, abs=1e-5)


@pytest.mark.parity(38)
def test_losses_compute_in_float32_under_autocast():
    s, e = _unit(6, 32).float(), _unit(5, 32, seed=1).float()
    plain = terms.concept_logits(s, e, 0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = terms.concept_logits(s, e, 0.01)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)
