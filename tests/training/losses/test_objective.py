"""The weighted sum of the losses of a batch, against loops over the paper's formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.students import tiny_student
from training.losses import terms
from training.losses.objective import Objective, kept_or_all
from training.settings import LossSettings


def _slow_contrast(s, e, labels, tau) -> torch.Tensor:
    """-log(sum_{j: y_j = y_i} exp(s_i.e_yj / tau) / sum_j exp(s_i.e_yj / tau)), j over the kept regions."""
    values = []
    for i in range(len(s)):
        values_j = torch.stack([(s[i] @ e[labels[j]] / tau).exp() for j in range(len(s))])
        values.append(-(values_j[labels == labels[i]].sum() / values_j.sum()).log())
    return torch.stack(values)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return (x / x.norm(dim=1, keepdim=True)).double()


@pytest.mark.parity(21)
def test_a_rank_that_keeps_none_keeps_all():
    none, some = torch.zeros(3, dtype=torch.bool), torch.tensor([False, True, False])
    assert kept_or_all(none, "rank").all()
    assert kept_or_all(some, "rank").tolist() == [False, True, False]


@pytest.mark.parity(25, 26, 27, 28, 32)
def test_the_losses_of_a_batch(batch, preset):
    b, e = batch
    model = tiny_student().eval()
    outputs = model(b)
    tau = 0.05
    parts = Objective(e, tau, replace(preset.loss, tau=tau))(outputs, b)
    s, c = _unit(outputs[0][b.kept]), _unit(e)
    want_contrast = _slow_contrast(s, c, b.topk_ids[b.kept, 0], tau).mean()
    torch.testing.assert_close(parts["contrast"], want_contrast.float(), atol=1e-4, rtol=1e-4)
    p = (s @ c.T / tau).softmax(dim=1)
    kls = []
    for i, (ids, q) in enumerate(zip(b.topk_ids[b.kept], b.topk_probs[b.kept].double(), strict=True)):
        rest = torch.cat([q, (1 - q.sum()).clamp(min=0)[None]])
        p_rest = torch.cat([p[i, ids], (1 - p[i, ids].sum())[None]])
        kls.append(sum(a * (a / z).log() for a, z in zip(rest, p_rest, strict=True) if a > 0))
    torch.testing.assert_close(parts["distill"], torch.stack(kls).mean().float(), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(parts["total"], parts["contrast"] + parts["distill"] + parts["image"])


@pytest.mark.parity(26)
def test_no_squared_temperature_factor():
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    q = torch.tensor([[0.2, 0.7, 0.1]])
    stored = (torch.tensor([[1, 0, 2]]), q[:, [1, 0, 2]], torch.zeros(1))
    for tau in (1.0, 0.1):
        want = (q * (q.log() - (logits / tau).log_softmax(dim=1))).sum(dim=1)
        torch.testing.assert_close(terms.distillation(logits / tau, *stored), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parity(29)
def test_negatives_are_the_rank_s_own_concepts(preset):
    assert (preset.loss.contrast, preset.loss.average) == ("rank", "rank")
    few = terms.region_contrastive(torch.ones(2, 4), torch.tensor([0, 1]), torch.tensor([1, 1, 0, 0]))
    assert few.tolist() == pytest.approx([np.log(2)] * 2)


@pytest.mark.parity(30)
def test_image_and_caption_in_both_directions(batch, preset):
    b, e = batch
    outputs = tiny_student().eval()(b)
    parts = Objective(e, 0.05, preset.loss)(outputs, b)
    v, t = _unit(outputs[1][b.has_caption]), _unit(b.captions[b.has_caption])
    logits = v @ t.T / 0.05
    rows, columns = (-x.log_softmax(dim=1).diagonal().mean() for x in (logits, logits.T))
    torch.testing.assert_close(parts["image"], ((rows + columns) / 2).float(), atol=1e-4, rtol=1e-4)
    assert 0 < b.has_caption.sum() < len(b.has_caption)


@pytest.mark.parity(46)
def test_what_the_dataset_stores_is_all_that_a_step_needs(batch):
    b, e = batch
    total = Objective(e, 0.05, LossSettings())(tiny_student()(b), b)["total"]
    assert torch.isfinite(total)
