from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.align import Aligner, AlignSettings, Image, align
from pipeline.ranking import top_of

POOL = AlignSettings(policy="pool", tau=0.1)


def vectors(n: int, seed: int, width: int = 8) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def slow_probabilities(
    region: list[float], concepts: list[list[float]], mentioned: list[int], s: AlignSettings
):
    """The definition, in plain Python."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    logits = [cosine(region, c) / s.tau for c in concepts]
    for i in range(len(logits)):
        if s.policy == "blend" and i in mentioned:
            logits[i] += s.blend_bonus
        if s.policy == "caption" and mentioned and i not in mentioned:
            logits[i] = -math.inf
    best = max(logits)
    weights = [math.exp(v - best) for v in logits]
    return [w / sum(weights) for w in weights]


@pytest.mark.parity(19, 20, 24)
@given(
    regions=st.integers(0, 5),
    concepts=st.integers(1, 12),
    k=st.integers(1, 14),
    policy=st.sampled_from(["pool", "caption", "blend"]),
    mentioned=st.lists(st.integers(0, 11), max_size=3, unique=True),
    tau=st.sampled_from([0.01, 0.07, 0.5]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_it_is_the_definition(regions, concepts, k, policy, mentioned, tau, seed):
    mentioned = sorted(i for i in mentioned if i < concepts)
    s = AlignSettings(policy=policy, tau=tau, top_k=k)
    v, e = vectors(regions, seed), vectors(concepts, seed + 100)
    got = align(v, e, mentioned, s)
    k = min(k, concepts)
    assert got.topk_ids.shape == got.topk_probs.shape == (regions, k)
    assert got.residual.shape == got.kept.shape == got.margin.shape == (regions,)
    for r in range(regions):
        slow = slow_probabilities(v[r].tolist(), e.tolist(), mentioned, s)
        np.testing.assert_allclose(
            got.topk_probs[r], [slow[i] for i in got.topk_ids[r]], rtol=2e-4, atol=1e-7
        )
        np.testing.assert_allclose(got.topk_probs[r], sorted(slow, reverse=True)[:k], rtol=2e-4, atol=1e-7)
        assert got.residual[r] == pytest.approx(max(0.0, 1 - sum(sorted(slow, reverse=True)[:k])), abs=1e-5)
        first, second = [*sorted(slow, reverse=True), 0.0][:2]
        assert got.margin[r] == pytest.approx(first - second, abs=1e-4)
        may_keep = policy != "caption" or bool(mentioned)
        if abs(first - 0.1) > 1e-4:
            assert bool(got.kept[r]) == (first > 0.1 and may_keep)


def test_the_threshold_is_strict():
    concepts = torch.eye(2)
    even = torch.ones(1, 2)
    assert not align(even, concepts, [], dataclasses.replace(POOL, threshold=0.5)).kept[0]
    assert align(even, concepts, [], dataclasses.replace(POOL, threshold=0.499)).kept[0]


def test_ties_fall_to_the_lower_id():
    concepts = torch.ones(6, 4)
    got = align(torch.ones(2, 4), concepts, [], dataclasses.replace(POOL, top_k=4))
    assert got.topk_ids.tolist() == [[0, 1, 2, 3]] * 2


def test_concepts_that_a_caption_rules_out_have_no_probability_and_come_last():
    got = align(vectors(3, 0), vectors(5, 1), [4], AlignSettings(policy="caption", tau=0.1, top_k=3))
    assert got.topk_ids.tolist() == [[4, 0, 1]] * 3
    assert got.topk_probs.tolist() == [[1.0, 0.0, 0.0]] * 3


def test_a_bonus_can_only_help_what_is_mentioned():
    plain = align(vectors(20, 0), vectors(9, 1), [3], dataclasses.replace(POOL, top_k=9))
    blend = align(
        vectors(20, 0), vectors(9, 1), [3], AlignSettings(policy="blend", tau=0.1, blend_bonus=2.0, top_k=9)
    )
    of_3 = [a.topk_probs[a.topk_ids == 3] for a in (plain, blend)]
    assert (of_3[1] > of_3[0]).all()


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=5), seed=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_batch_equals_its_images(counts, seed):
    concepts = vectors(11, 99)
    s = AlignSettings(policy="blend", tau=0.1, top_k=3)
    regions = [vectors(n, seed + i) for i, n in enumerate(counts)]
    mentioned = [[i % 11] if i % 2 else [] for i in range(len(counts))]
    together = Aligner(concepts, s)(regions, [Image(m) for m in mentioned])
    for got, v, m in zip(together, regions, mentioned, strict=True):
        alone = align(v, concepts, m, s)
        assert got.topk_ids.tolist() == alone.topk_ids.tolist()
        np.testing.assert_allclose(got.topk_probs, alone.topk_probs, rtol=1e-5)


@pytest.mark.parity(25)
@pytest.mark.parametrize("policy", ["pool", "caption", "blend"])
def test_an_images_labels_are_the_same_bits_whatever_is_beside_it(policy, monkeypatch):
    monkeypatch.setattr("pipeline.align.CELLS", 9000)  # several images at once, and several times
    counts = [1, 20, 0, 1, 40, 3, 200, 1, 7]
    regions = [vectors(n, seed, 64) for seed, n in enumerate(counts)]
    images = [Image([i, 2 * i + 1] if i % 2 else []) for i in range(len(counts))]
    aligner = Aligner(vectors(100, 50, 64), AlignSettings(policy=policy, tau=0.05))
    for one, image, got in zip(regions, images, aligner(regions, images), strict=True):
        (alone,) = aligner([one], [image])
        for name in ("topk_ids", "topk_probs", "residual", "scores", "reasons", "margin"):
            assert np.array_equal(getattr(alone, name), getattr(got, name)), name


def test_scaling_an_embedding_changes_nothing():
    v, e = vectors(4, 0), vectors(6, 1)
    once, scaled = align(v, e, [], POOL), align(v * 7, e * 0.01, [], POOL)
    assert once.topk_ids.tolist() == scaled.topk_ids.tolist()
    np.testing.assert_allclose(once.topk_probs, scaled.topk_probs, rtol=1e-5)


@given(
    rows=st.lists(
        st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]), min_size=7, max_size=7),
        min_size=1,
        max_size=4,
    ),
    k=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_top_of_equals_a_stable_sort(rows, k):
    ids, values = top_of(torch.tensor(rows), k)
    for row, found, value in zip(rows, ids.tolist(), values.tolist(), strict=True):
        assert found == sorted(range(7), key=lambda i: (-row[i], i))[: min(k, 7)]
        assert value == [row[i] for i in found]


def test_pair_nms_is_applied_and_asks_for_boxes():
    concepts, v = torch.eye(3), torch.eye(3)[[0, 0, 1]]
    s = dataclasses.replace(POOL, pair_nms_iou=0.5)
    boxes = np.array([[0, 0, 1, 1]] * 3, np.float32)
    assert align(v, concepts, [], s, boxes).kept.tolist() == [True, False, True]
    with pytest.raises(ValueError, match="pair_nms_iou needs the boxes"):
        align(v, concepts, [], s)


def test_objectness_decides_between_equal_labels():
    concepts, v = torch.eye(3), torch.eye(3)[[0, 0, 1]]
    s = dataclasses.replace(POOL, score="objectness", threshold=0.3)
    got = align(v, concepts, [], s, objectness=np.array([2.0, -2.0, 0.0], np.float32))
    want = got.topk_probs[:, 0] / (1 + np.exp([-2.0, 2.0, 0.0]))
    np.testing.assert_allclose(got.scores, want, rtol=1e-5)
    assert got.reasons.tolist() == [0, 1, 0]
    assert got.kept.tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"align.score needs the objectness"):
        align(v, concepts, [], s)


def test_by_default_the_score_is_the_probability():  # RegionCLIP's rule
    got = align(vectors(9, 0), vectors(5, 1), [], POOL)
    np.testing.assert_array_equal(got.scores, got.topk_probs[:, 0])
    np.testing.assert_array_equal(got.kept, got.topk_probs[:, 0] > POOL.threshold)


def test_region_rules_ask_for_the_size_and_say_what_is_wrong():
    concepts, v = torch.eye(3), torch.eye(3)[[0, 1, 2]]
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.05, 0.5], [0, 0, 0.5, 0.5]], np.float32)
    s = dataclasses.replace(POOL, min_side_px=10, max_area=0.9)
    assert align(v, concepts, [], s, boxes, size=(100, 100)).reasons.tolist() == [3, 2, 0]
    with pytest.raises(ValueError, match="size of the image"):
        align(v, concepts, [], s, boxes)


def test_corpus_labels_need_a_fit():
    with pytest.raises(ValueError, match="refine_labels"):
        Aligner(torch.eye(3), dataclasses.replace(POOL, policy="corpus"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("policy", "all"),
        ("tau", 0.0),
        ("threshold", 1.0),
        ("top_k", 0),
        ("region_embeddings", "fp8"),
        ("pair_nms_iou", 2),
    ],
)
def test_a_bad_setting_is_named(key, value):
    with pytest.raises(ValueError, match=f"align.{key}"):
        AlignSettings(**{key: value})


def test_a_half_precision_cosine_would_cost_five_percent():
    """Why probabilities are stored and not fp16 cosines: at tau = 0.01 the step near 0.5 is a factor exp(0.0244)."""
    cosine = 0.5 + 2.0**-12
    assert abs(math.exp((float(np.float16(cosine)) - cosine) / 0.01) - 1) > 0.02
    probability = 0.3333
    assert abs(float(np.float16(probability)) / probability - 1) < 0.0005
