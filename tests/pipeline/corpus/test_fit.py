"""The corpus pass on small corpora whose truth is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.corpus import classifier, maximisation
from pipeline.corpus.classifier import Classifier, from_bytes, from_text, to_bytes
from pipeline.corpus.expectation import cover, statistics, text_logits
from pipeline.corpus.fit import State, fit, report, steps
from pipeline.corpus.labels import label
from pipeline.corpus.regions import HELD_OUT, ShardRegions, of_images
from pipeline.corpus.settings import CorpusSettings
from tests.pipeline.corpus.corpora import OBJECTNESS, TAU, Corpus, as_int8, corpus

SETTINGS = CorpusSettings(rounds=8, shards_per_step=3)


def fitted(c: Corpus, settings: CorpusSettings = SETTINGS, **more) -> State:
    def look(shards, model, text, fade, s):
        return [statistics(c.shards[i], model, text, fade, s) for i in shards]

    return fit(len(c.shards), look, c.text, TAU, OBJECTNESS, settings, **more)


def labels_of(c: Corpus, model: Classifier, damping: float = 0.1) -> np.ndarray:
    found = []
    for s in c.shards:
        counts = np.diff(s.offsets).tolist()
        found.append(label(model, s.embeddings, s.objectness, s.mentioned, counts, damping, 1).ids[:, 0])
    return np.concatenate(found)


def right(c: Corpus, model: Classifier, kinds: range) -> float:
    """Share of the regions of these kinds that are labelled right."""
    chosen = np.isin(c.truth, list(kinds))
    return float((labels_of(c, model) == c.truth)[chosen].mean())


def test_it_learns_names_that_the_text_does_not_know():
    c = corpus()
    before, after = from_text(c.text, TAU, OBJECTNESS), fitted(c).classifier
    assert right(c, before, range(5, 8)) < 0.75
    assert right(c, after, range(5, 8)) > 0.9
    assert right(c, after, range(5)) > 0.9


def test_it_tells_background_from_objects_it_was_never_told_of():
    c = corpus()
    model = fitted(c, replace(SETTINGS, objectness_prior=False)).classifier
    logits = [model.logits(shard.embeddings) for shard in c.shards]
    background = np.concatenate([x[:, -1] - x[:, :-1].max(axis=1) for x in logits])
    order = np.argsort(-background)
    assert (c.truth[order[: len(order) // 4]] == -1).mean() > 0.95


def test_captions_of_other_images_teach_nothing_and_raise_the_alarm():
    honest, shuffled = fitted(corpus()), fitted(corpus(shuffled=True))
    assert honest.rounds[-1].agreement > 0.8
    assert shuffled.rounds[-1].agreement < 0.6
    assert shuffled.rounds[-1].background > honest.rounds[-1].background
    assert report(honest, SETTINGS)["alarm"] == ""
    assert "captions fit other images" in report(shuffled, SETTINGS)["alarm"]


def test_the_result_does_not_depend_on_the_number_of_workers():
    c = corpus(images=120)

    def in_threads(shards, model, text, fade, s):
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda i: statistics(c.shards[i], model, text, fade, s), shards))

    threaded = fit(len(c.shards), in_threads, c.text, TAU, OBJECTNESS, SETTINGS)
    assert to_bytes(threaded.classifier) == to_bytes(fitted(c).classifier)


@pytest.mark.parametrize("after", [1, 5, 8])
def test_an_interrupted_fit_goes_on_to_the_same_bytes(after):
    c = corpus(images=72)
    states = []
    whole = fitted(c, after_round=lambda s: states.append(State(s.classifier, s.moments, list(s.rounds))))
    assert to_bytes(fitted(c, state=states[after - 1]).classifier) == to_bytes(whole.classifier)


def test_int8_embeddings_give_the_same_labels():
    c = corpus()
    small = replace(c, shards=[as_int8(s) for s in c.shards])
    a, b = labels_of(c, fitted(c).classifier), labels_of(c, fitted(small).classifier)
    assert (a == b).mean() > 0.98


def test_concepts_that_no_caption_names_stay_where_their_text_is():
    c = corpus(images=48)
    text = np.concatenate([c.text, c.text[:4] * [[1, -1] * 8] * 1])
    model = fitted(replace(c, text=text.astype(np.float32))).classifier
    start = from_text(text, TAU, OBJECTNESS)
    np.testing.assert_array_equal(model.weights[8:12], start.weights[8:12])
    assert np.abs(model.weights[:8] - start.weights[:8]).max() > 0.01


def test_work_of_a_shard_does_not_grow_with_the_pool():
    c = corpus(images=24)
    text = np.zeros((50_000, 16), np.float32)
    text[:8] = c.text
    found = statistics(c.shards[0], from_text(text, TAU, OBJECTNESS), text, 1.0, SETTINGS)
    assert len(found.rows) <= 9
    assert found.rows[-1] == 50_000
    assert found.gradient.shape == (len(found.rows), 16)


def test_statistics_of_targets_that_are_met_are_nothing():
    """Without constraints the targets are the classifier's own probabilities: it has no reason to move."""
    c = corpus(images=24)
    s = CorpusSettings(damping=1.0, coverage=0.0)
    found = statistics(c.shards[0], from_text(c.text, TAU, OBJECTNESS), c.text, 0.0, s)
    np.testing.assert_allclose(found.gradient, 0, atol=1e-4)
    np.testing.assert_allclose(found.bias, 0, atol=1e-4)


def test_the_gradient_is_that_of_the_cross_entropy():
    """Against autograd, with the targets written down in plain torch (no coverage, no text)."""
    c = corpus(images=20, per_shard=20)
    model, shard = from_text(c.text, TAU, OBJECTNESS), c.shards[0]
    found = statistics(shard, model, c.text, 0.0, CorpusSettings(damping=0.1, coverage=0))
    weights = torch.tensor(model.weights, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weights), dtype=torch.float64, requires_grad=True)
    logits = torch.tensor(shard.embeddings, dtype=torch.float64) @ weights.T / TAU + bias
    prior = torch.zeros_like(logits)
    prior[:, -1] = -torch.tensor(OBJECTNESS.logit(shard.objectness), dtype=torch.float64)
    logits = logits + prior
    damped = torch.zeros_like(logits)
    for image, names in enumerate(shard.mentioned):
        others = [k for k in range(len(c.text)) if k not in names]
        damped[shard.offsets[image] : shard.offsets[image + 1], others] = float(np.log(0.1))
    targets = (logits + damped).softmax(dim=1).detach()
    held = np.repeat(np.arange(20) % HELD_OUT == HELD_OUT - 1, np.diff(shard.offsets))
    (targets * logits.log_softmax(dim=1))[~held].sum().backward()
    np.testing.assert_allclose(found.rows, np.arange(len(weights)))
    assert weights.grad is not None
    assert bias.grad is not None
    np.testing.assert_allclose(found.gradient / TAU, weights.grad, atol=2e-3)
    np.testing.assert_allclose(found.bias, bias.grad, atol=2e-4)


def test_coverage_raises_what_nobody_explains_and_leaves_rows_distributions():
    targets = np.array([[0.1, 0.0, 0.9], [0.2, 0.0, 0.8], [0.9, 0.0, 0.1]], np.float32)
    got = cover(
        targets, np.array([0, 2]), np.array([0, 0, 1]), np.array([[True, False], [False, False]]), 1.0
    )
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-5)
    assert got[:2, 0].sum() > 0.75
    np.testing.assert_allclose(got[2], targets[2], rtol=1e-5)


def test_an_image_without_regions_or_names_is_no_obstacle():
    rng = np.random.default_rng(0)
    unit = classifier.unit_rows(rng.normal(size=(3, 4)))
    empty = np.zeros((0, 4), np.float32)
    shard = of_images([unit, empty, unit], [np.zeros(3), np.zeros(0), np.zeros(3)], [[], [1], []])
    found = statistics(shard, from_text(unit, TAU, OBJECTNESS), unit, 1.0, SETTINGS)
    assert found.regions == 6
    assert np.isfinite(found.gradient).all()
    nothing = of_images([], [], [])
    assert statistics(nothing, from_text(unit, TAU, OBJECTNESS), unit, 1.0, SETTINGS).regions == 0


def test_no_shards_are_a_fit_without_rounds():
    state = fit(0, lambda *a: [], np.eye(3, dtype=np.float32), TAU, OBJECTNESS, SETTINGS)
    assert state.rounds == []
    assert report(state, SETTINGS)["alarm"] == ""


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 33])
def test_a_round_sees_every_shard_and_moves_often_enough(n):
    s = CorpusSettings(shards_per_step=8, steps_per_round=4)
    found = steps(n, 0, s)
    assert {i for step in found for i in step} == set(range(n))
    assert len(found) >= 4
    assert all(len(step) == min(8, n) for step in found)
    assert found == steps(n, 0, s)
    if n > 2:
        assert found != steps(n, 1, s)


def test_steps_do_not_depend_on_the_order_in_which_statistics_are_made():
    c = corpus(images=48)
    model = from_text(c.text, TAU, OBJECTNESS)
    made = {i: statistics(c.shards[i], model, c.text, 1.0, SETTINGS) for i in (1, 0)}
    once, _ = maximisation.step(model, maximisation.start(model), [made[0], made[1]], 0.05)
    again, _ = maximisation.step(model, maximisation.start(model), [made[i] for i in (0, 1)], 0.05)
    assert to_bytes(once) == to_bytes(again)
    assert np.abs(once.weights - model.weights).max() > 0


def test_the_classifier_survives_its_file_and_damage_is_named():
    model = fitted(corpus(images=24), replace(SETTINGS, rounds=1)).classifier
    data = to_bytes(model, "x")
    back = from_bytes(data)
    np.testing.assert_array_equal(back.weights, model.weights)
    assert (back.tau, back.objectness) == (model.tau, model.objectness)
    with pytest.raises(ValueError, match="made for x, this is y"):
        from_bytes(data, "y")
    flipped = bytearray(data)
    flipped[-3] ^= 16
    for bad in (b"", data[:50], data[:-4], b"x" * 400, bytes(flipped)):
        with pytest.raises(ValueError, match="no corpus classifier"):
            from_bytes(bad)


def test_labels_are_damped_and_given_that_there_is_an_object():
    unit = np.eye(3, dtype=np.float32)
    model = from_text(unit, 1.0, OBJECTNESS)
    free = label(model, unit, np.zeros(3, np.float32), [[]], [3], 0.1, 3)
    np.testing.assert_allclose(free.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert free.ids[:, 0].tolist() == [0, 1, 2]
    named = label(model, unit, np.zeros(3, np.float32), [[2]], [3], 0.0, 3)
    assert named.ids[:, 0].tolist() == [2, 2, 2]
    low = label(model, unit, np.full(3, -5, np.float32), [[]], [3], 0.1, 3)
    assert (low.background > free.background).all()


def test_text_makes_background_as_likely_as_a_few_average_concepts():
    logits = text_logits(np.zeros((1, 2), np.float32), np.zeros((9, 2), np.float32), 1.0)
    np.testing.assert_allclose(logits[0, -1], np.log(9) - 0.5 * np.log(9), rtol=1e-5)


def test_what_does_not_fit_is_refused():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="not one a region"):
        ShardRegions(x, np.zeros(3, np.float32), np.array([0, 2]), [[]])
    with pytest.raises(ValueError, match="scales"):
        ShardRegions(x.astype(np.int8), np.zeros(2, np.float32), np.array([0, 2]), [[]])
    with pytest.raises(ValueError, match="offsets"):
        ShardRegions(x, np.zeros(2, np.float32), np.array([0, 1]), [[]])
    for key, value in (("rounds", 0), ("damping", 2.0), ("coverage", -1.0), ("learning_rate", 0.0)):
        with pytest.raises(ValueError, match=f"corpus.{key}"):
            CorpusSettings(**{key: value})
