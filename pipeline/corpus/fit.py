"""Rounds of expectation and maximisation over the shards of a dataset."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline.corpus import maximisation
from pipeline.corpus.classifier import Classifier, from_text, unit_rows
from pipeline.corpus.expectation import Statistics
from pipeline.corpus.maximisation import Moments
from pipeline.corpus.settings import CorpusSettings
from pipeline.scores import Objectness

#: (shards, classifier, text float32 [C, D], fade, settings) -> statistics, one a shard, in the order of the shards.
Look = Callable[[Sequence[int], Classifier, np.ndarray, float, CorpusSettings], Sequence[Statistics]]

#: Below this agreement of captions and images the labels are not to be trusted (`Round.agreement`).
LEAST_AGREEMENT = 0.6


@dataclass(frozen=True)
class Round:
    """What a round found.

    loss: mean of a region. background: share of all targets. agreement: how often an image shows what its captions name
    better than another image does, among images that are not learned from (0.5: the captions might be anybody's; NaN:
    there was nothing to compare).
    """

    loss: float
    background: float
    agreement: float


@dataclass
class State:
    """Between two rounds: a fit goes on from here as if it had never stopped."""

    classifier: Classifier
    moments: Moments
    rounds: list[Round] = field(default_factory=list)


def fit(
    n_shards: int,
    look: Look,
    text: np.ndarray,
    tau: float,
    objectness: Objectness,
    settings: CorpusSettings,
    state: State | None = None,
    after_round: Callable[[State], None] = lambda state: None,
) -> State:
    """Fits the classifier to shards 0 .. n_shards - 1, which `look` reads.

    text: float32 [C, D]. state: of an interrupted fit. The same result for any number of workers behind `look`. Memory:
    the classifier and its moments, 3 (C + 1) (D + 1) floats, and a step's statistics; nothing that grows with the corpus.
    """
    text = unit_rows(text)
    if state is None:
        first = from_text(text, tau, objectness)
        state = State(first, maximisation.start(first))
    for number in range(len(state.rounds), settings.rounds if n_shards else 0):
        fade = 1 - number / settings.rounds if settings.text_prior or number == 0 else 0.0
        sums = np.zeros(5)
        for shards in steps(n_shards, number, settings):
            found = look(shards, state.classifier, text, fade, settings)
            sums += [
                sum(getattr(s, name) for s in found)
                for name in ("loss", "background", "regions", "agreeing", "compared")
            ]
            state.classifier, state.moments = maximisation.step(
                state.classifier, state.moments, found, settings.learning_rate
            )
        state.rounds.append(_round(*sums))
        after_round(state)
    return state


def _round(loss: float, background: float, regions: float, agreeing: float, compared: float) -> Round:
    return Round(
        loss / regions if regions else math.nan,
        background / regions if regions else math.nan,
        agreeing / compared if compared else math.nan,
    )


def steps(n_shards: int, number: int, settings: CorpusSettings) -> list[list[int]]:
    """The shards of each step of round `number`: every shard at least once, in an order that the seed gives.

    Where there are few shards they are gone through several times, so that the classifier moves often enough.
    """
    width = min(settings.shards_per_step, n_shards)
    per_round = max(settings.steps_per_round, math.ceil(n_shards / width))
    order: list[int] = []
    lap = 0
    while len(order) < per_round * width:
        digest = hashlib.sha256(f"{settings.seed} {number} {lap}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
        order += generator.permutation(n_shards).tolist()
        lap += 1
    return [order[i * width : (i + 1) * width] for i in range(per_round)]


def report(state: State, settings: CorpusSettings) -> dict[str, Any]:
    """What is told of a fit: every round, and `alarm`, a sentence where the captions do not fit the images."""
    rounds = [{k: None if math.isnan(v) else float(v) for k, v in asdict(r).items()} for r in state.rounds]
    last = state.rounds[-1] if state.rounds else Round(math.nan, math.nan, math.nan)
    alarm = ""
    if last.agreement < LEAST_AGREEMENT:
        alarm = (
            f"the captions fit other images nearly as well as their own (agreement {last.agreement:.2f}, 0.5 is chance; "
            f"{last.background:.0%} of the mass is background): do not use these labels"
        )
    return {"settings": asdict(settings), "rounds": rounds, "alarm": alarm}
