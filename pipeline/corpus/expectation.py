"""One shard under the present classifier -> the statistics that a better classifier is made of (the E-step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.corpus.classifier import Classifier
from pipeline.corpus.regions import Block, ShardRegions
from pipeline.corpus.settings import CorpusSettings

#: Sweeps over an image's concepts that are too little explained, and how much a region's share may grow in one of them.
SWEEPS = 3
MOST_GROWTH = 50.0
NEVER = np.float32(-1e9)


@dataclass(frozen=True)
class Statistics:
    """What one shard says of the classifier: sums over its regions, in its order.

    rows: int64 [K], the concepts that the shard's captions name, rising, then C for background. gradient: float32
    [K, D], sum of (target - probability) * embedding; bias: float32 [K], sum of (target - probability). regions: how
    many were learned from. background: their summed background targets, before coverage. loss: summed cross-entropy of
    their targets. agreeing, compared: of the named concepts that were compared with another image (`agreement`), how many
    the own image shows better.
    """

    rows: np.ndarray
    gradient: np.ndarray
    bias: np.ndarray
    regions: int
    background: float
    loss: float
    agreeing: float
    compared: int


def statistics(
    shard: ShardRegions, classifier: Classifier, text: np.ndarray, fade: float, settings: CorpusSettings
) -> Statistics:
    """The E-step of a shard, and the gradient of the M-step's objective, from one look at its regions.

    text: unit float32 [C, D]. fade: the text embeddings' say in the targets, 1 (all) .. 0 (none). Memory depends on the
    shard alone, work on the concepts that its captions name and not on C.
    """
    named = {c for ids in shard.mentioned for c in ids}
    background = classifier.n_concepts
    rows = np.array([*sorted(named), background], np.int64)
    gradient = np.zeros((len(rows), classifier.weights.shape[1]), np.float32)
    bias = np.zeros(len(rows), np.float32)
    sums = np.zeros(4)
    regions = 0
    for block in shard.blocks():
        own = np.append(block.candidates, background)
        logits = classifier.logits(block.embeddings, own)
        prior = background_prior(block.objectness, classifier, settings)
        logits[:, -1] += prior
        targets, nothing = _targets(block, logits, prior, text, classifier.tau, fade, settings)
        log_p = log_softmax(logits)
        learned = ~block.held[block.image]
        difference = (targets - np.exp(log_p)) * learned[:, None]
        place = np.searchsorted(rows, own)
        gradient[place] += difference.T @ block.embeddings
        bias[place] += difference.sum(axis=0)
        regions += int(learned.sum())
        loss = -(targets * log_p).sum(axis=1)
        sums += (float(nothing[learned].sum()), float(loss[learned].sum()), *agreement(block, logits))
    return Statistics(rows, gradient, bias, regions, sums[0], sums[1], sums[2], int(sums[3]))


def background_prior(
    objectness: np.ndarray, classifier: Classifier, settings: CorpusSettings
) -> np.ndarray | np.float32:
    """Logits added to background, float32 [R] or one for all: minus the log odds that there is an object."""
    if not settings.background:
        return NEVER
    if not settings.objectness_prior:
        return np.float32(0)
    return -classifier.objectness.logit(objectness)


def _targets(
    block: Block,
    logits: np.ndarray,
    prior: np.ndarray | np.float32,
    text: np.ndarray,
    tau: float,
    fade: float,
    settings: CorpusSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """What the regions should be called, float32 [R, K + 1], rows summing to 1; and background's share before coverage."""
    if fade > 0:
        said = text_logits(block.embeddings, text[block.candidates], tau)
        said[:, -1] += prior
        logits = np.float32(fade) * said + np.float32(1 - fade) * logits
    own = block.named[block.image]
    damped = logits.copy()
    damped[:, :-1] += np.where(own, np.float32(0), _log(settings.damping))
    if not settings.background:
        damped[:, -1] = NEVER
    targets = np.exp(log_softmax(damped))
    nothing = targets[:, -1]
    if settings.coverage and len(block.candidates):
        targets = cover(targets, block.starts, block.image, block.named, settings.coverage)
    return targets, nothing


def text_logits(embeddings: np.ndarray, text: np.ndarray, tau: float) -> np.ndarray:
    """What the text embeddings alone say, float32 [R, K + 1]; background is as likely as sqrt(K) average concepts."""
    logits = np.zeros((len(embeddings), len(text) + 1), np.float32)
    if len(text):
        logits[:, :-1] = embeddings @ text.T / np.float32(tau)
        top = logits[:, :-1].max(axis=1)
        total = top + np.log(np.exp(logits[:, :-1] - top[:, None]).sum(axis=1))
        logits[:, -1] = total - np.float32(0.5 * np.log(len(text)))
    return logits


def cover(
    targets: np.ndarray, starts: np.ndarray, image: np.ndarray, named: np.ndarray, regions: float
) -> np.ndarray:
    """Raises the shares of named concepts that fewer than `regions` regions of their image explain.

    targets: float32 [R, K + 1]. starts: int [N]. image: int [R]. named: bool [N, K]. A multiple-instance constraint: the
    caption promises the concept, so the regions that come closest take it up, at the cost of their other names.
    """
    for _ in range(SWEEPS):
        explained = np.add.reduceat(targets[:, :-1], starts, axis=0)
        wanted = np.minimum(np.float32(regions) / np.maximum(explained, np.float32(1e-9)), MOST_GROWTH)
        growth = np.where(named & (explained < regions), wanted, 1).astype(np.float32)
        targets = np.concatenate([targets[:, :-1] * growth[image], targets[:, -1:]], axis=1)
        targets /= targets.sum(axis=1, keepdims=True)
    return targets


def agreement(block: Block, logits: np.ndarray) -> tuple[float, int]:
    """Do the images show what their captions say? (how often, of how many), ties as a half.

    Of the images that the fit does not learn from: each named concept's best region against the best of the next of them,
    if that does not name the concept. The captions of other images come to a half; then the fit has learned nothing and
    its labels are no labels.
    """
    if block.held.sum() < 2 or not len(block.candidates):
        return 0.0, 0
    best = np.maximum.reduceat(log_softmax(logits)[:, :-1], block.starts, axis=0)[block.held]
    named = block.named[block.held]
    other, named_there = np.roll(best, -1, axis=0), np.roll(named, -1, axis=0)
    compared = named & ~named_there
    wins = (best > other) + 0.5 * (best == other)
    return float(wins[compared].sum()), int(compared.sum())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the columns of float32 [R, K]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _log(share: float) -> np.float32:
    return np.float32(np.log(share)) if share > 0 else NEVER
