"""Zero-shot scores and accuracies against slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluation.metrics import zero_shot


@pytest.mark.parity(52)
def test_scores_hold_a_background_of_logit_zero():
    regions, concepts = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    scores = zero_shot.class_scores(regions, concepts, tau=0.5)
    exps = [math.exp(0.6 / 0.5), math.exp(0.8 / 0.5), 1.0]
    assert scores[0] == pytest.approx([exps[0] / sum(exps), exps[1] / sum(exps)], rel=1e-5)
    without = zero_shot.class_scores(regions, concepts, tau=0.5, background=False)
    assert without.sum() == pytest.approx(1.0)


@pytest.mark.parity(58)
def test_accuracy_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    labels = np.array([0, 1, 2, 2])
    result = zero_shot.accuracy(scores, labels, topk=(1, 2))
    assert result["top1"] == pytest.approx(2 / 4)
    assert result["top2"] == pytest.approx(3 / 4)
    assert result["mean_class_top1"] == pytest.approx((1 + 0 + 0.5) / 3)
    split = zero_shot.accuracy_by_split(scores, labels, np.array([False, False, True]), topk=(1,))
    assert split["base"]["top1"] == pytest.approx(1 / 2)
    assert split["novel"]["top1"] == pytest.approx(1 / 2)


def test_constant_scores_earn_nothing():
    scores = np.ones((6, 5))
    assert zero_shot.accuracy(scores, np.arange(6) % 5)["top1"] == 0.0


def test_no_regions_is_nan_not_zero():
    assert math.isnan(zero_shot.accuracy(np.zeros((0, 3)), np.zeros(0, int))["top1"])


def test_retrieval_meets_its_slow_twin():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(9, 4, generator=generator), torch.randn(20, 4, generator=generator)
    owner = np.arange(20) % 8  # image 8 has no caption and must not be asked for
    found = zero_shot.retrieval(images, texts, owner, topk=(1, 3))
    unit = lambda x: x / x.norm(dim=1, keepdim=True)  # noqa: E731
    similarity = (unit(images) @ unit(texts).T).numpy()
    for k in (1, 3):
        to_image = np.mean([owner[t] in np.argsort(-similarity[:, t])[:k] for t in range(20)])
        to_text = np.mean([(owner[np.argsort(-similarity[i])[:k]] == i).any() for i in range(8)])
        assert found[f"text_to_image_r{k}"] == pytest.approx(to_image)
        assert found[f"image_to_text_r{k}"] == pytest.approx(to_text)


def test_scene_accuracy_by_hand():
    scores = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.9, 0.05, 0.05]])
    present = np.array([[True, False, True], [False, True, False], [False, False, False]])
    result = zero_shot.scene_accuracy(scores, present)
    assert result["top1"] == pytest.approx(0.5)
    assert result["precision_at_n"] == pytest.approx((0.5 + 0) / 2)
