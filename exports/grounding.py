"""One caption an image, and where in it each pair is named: what grounding formats are made of. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from exports.pairs import Pair

Span = tuple[int, int]


@dataclass(frozen=True)
class Grounded:
    """A caption with its pairs and, for each of them, the spans (start, end) that name it, at least one.

    number: the caption's, among the image's.
    """

    number: int
    caption: str
    pairs: tuple[tuple[Pair, tuple[Span, ...]], ...]


def best_caption(captions: Sequence[str], pairs: Sequence[Pair]) -> int:
    """The caption that names the most pairs; the first of those that name as many."""
    counts = Counter(index for pair in pairs for index in {m.caption for m in pair.mentions})
    return max(range(len(captions)), key=lambda i: (counts[i], -i))


def grounded(captions: Sequence[str], pairs: Sequence[Pair]) -> Grounded:
    """The best caption and the pairs that it names; the others are left out."""
    best = best_caption(captions, pairs)
    spans = [tuple((m.start, m.end) for m in pair.mentions if m.caption == best) for pair in pairs]
    return Grounded(best, captions[best], tuple((p, s) for p, s in zip(pairs, spans, strict=True) if s))


def grounded_all(captions: Sequence[str], pairs: Sequence[Pair]) -> Grounded:
    """The best caption with the names behind it that it lacks, each once: "Two surfers on the shore. sand. sky."

    So every pair has a span, as in the grounding data that MDETR mixed (GoldG).
    """
    best = best_caption(captions, pairs)
    text = captions[best]
    named = {pair.region: spans for pair, spans in grounded(captions, pairs).pairs}
    added: dict[str, Span] = {}
    found = []
    for pair in pairs:
        if pair.region not in named and pair.concept not in added:
            text = text.rstrip() if text.rstrip().endswith((".", "!", "?")) else text.rstrip() + "."
            start = len(text) + 1
            text = f"{text} {pair.concept}."
            added[pair.concept] = (start, start + len(pair.concept))
        found.append((pair, named.get(pair.region) or (added[pair.concept],)))
    return Grounded(best, text, tuple(found))
