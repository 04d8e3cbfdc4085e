"""The samples at either end: most and least certain, teacher against caption, densest, emptiest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.look import Seen

EACH = 6


def extremes(seen: Sequence[Seen]) -> list[tuple[str, list[Seen]]]:
    """Titles and samples, the most extreme first; a title without samples is left out."""
    with_pairs = [s for s in seen if s.kept.any()]
    named = [s for s in with_pairs if s.mentioned]
    found = [
        ("Most certain", _first(with_pairs, lambda s: -s.confidence)),
        ("Least certain", _first(with_pairs, lambda s: s.confidence)),
        (
            "Teacher and caption disagree",
            [s for s in _first(named, lambda s: -disagreement(s)) if disagreement(s) > 0],
        ),
        ("Densest", _first(with_pairs, lambda s: -int(s.kept.sum()))),
        ("Emptiest", _first(with_pairs, lambda s: int(s.kept.sum()))),
    ]
    return [(title, samples) for title, samples in found if samples]


def disagreement(s: Seen) -> float:
    """Probability that the pairs give to names their captions do not mention, a pair, in [0, 1]."""
    strange = [
        p
        for p, label, kept in zip(s.probabilities, s.labels, s.kept, strict=True)
        if kept and label not in s.mentioned
    ]
    return float(sum(strange)) / max(1, int(s.kept.sum()))


def _first(seen: Sequence[Seen], order: Callable[[Seen], float]) -> list[Seen]:
    return sorted(seen, key=lambda s: (order(s), s.key))[:EACH]
