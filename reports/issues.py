"""What may be wrong with a dataset, worst first, each with its number and the samples that show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from reports.books import Books, unlike_shards
from reports.look import Look, Seen

#: A concept that holds more than this share of all pairs is named.
LARGE_SHARE = 0.05
#: A pair's box covers the whole image from this share of its area on; one whose shorter side has fewer pixels is small.
WHOLE, SMALL = 0.95, 16
#: A label is as good as unknown from this share of the entropy of equal probabilities on.
BLURRED = 0.9
PICTURES = 6


@dataclass(frozen=True)
class Shown:
    """A sample that shows an issue, and the region that does (-1: the whole of it)."""

    seen: Seen
    region: int = -1


@dataclass(frozen=True)
class Issue:
    """n of `of` things have it; `exact`: counted in all of the dataset, else in the samples looked at.

    names: up to a few lines that say which, where there are no pictures to show.
    """

    title: str
    text: str
    n: int
    of: int
    exact: bool
    shown: list[Shown] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.n / max(1, self.of)


def find(books: Books, look: Look, concepts: list[str]) -> list[Issue]:
    """All issues, by falling share of what they touch; those that touch nothing come last."""
    issues = [
        *_rejects(books),
        _large_concepts(books, look, concepts),
        _unused_concepts(books, concepts),
        _without_pairs(look),
        *_boxes(look),
        _blurred(look),
        _unlike(books),
        _duplicates(look),
    ]
    return sorted(issues, key=lambda i: (-i.share, i.title))


def _rejects(books: Books) -> list[Issue]:
    total = books.counts["n_read"]
    return [
        Issue(f"Rejected: {reason}", "Samples that are not in the dataset.", n, total, True)
        for reason, n in books.rejects
    ] or [Issue("Rejected samples", "Samples that are not in the dataset.", 0, total, True)]


def _large_concepts(books: Books, look: Look, concepts: list[str]) -> Issue:
    total = max(1, books.counts["n_pairs"])
    large = [int(c) for c in np.argsort(-books.pairs_of) if books.pairs_of[c] > LARGE_SHARE * total]
    shown = [
        Shown(s, int(r)) for s in look.seen for r in np.flatnonzero(s.kept & np.isin(s.labels, large))[:1]
    ]
    names = [
        f"{concepts[c]}: {books.pairs_of[c]} pairs, {100 * books.pairs_of[c] / total:.1f} %" for c in large
    ]
    return Issue(
        f"Pairs of concepts that hold more than {100 * LARGE_SHARE:.0f} % of all",
        "A student sees little else: a stricter threshold, or a cap a concept, evens them out.",
        int(books.pairs_of[large].sum()),
        books.counts["n_pairs"],
        True,
        shown[:PICTURES],
        names[:12],
    )


def _unused_concepts(books: Books, concepts: list[str]) -> Issue:
    unused = np.flatnonzero(books.pairs_of == 0)
    return Issue(
        "Concepts without a pair",
        "Names in the pool that no region was given.",
        len(unused),
        len(concepts),
        True,
        names=[concepts[c] for c in unused[:24]],
    )


def _without_pairs(look: Look) -> Issue:
    empty = [s for s in look.seen if not s.kept.any()]
    text = "Images of which no region passed the threshold."
    return Issue(
        "Images without a pair", text, len(empty), len(look.seen), False, [Shown(s) for s in empty[:PICTURES]]
    )


def _boxes(look: Look) -> list[Issue]:
    n_pairs = sum(int(s.kept.sum()) for s in look.seen)
    n_whole, whole = _regions(look, lambda s: s.kept & (s.areas > WHOLE))
    n_small, small = _regions(look, lambda s: s.kept & (s.short_sides < SMALL))
    text = "The label describes the image, not a region of it."
    small_text = "Their shorter side has fewer pixels than a teacher can recognise anything in."
    return [
        Issue("Pairs whose box is the whole image", text, n_whole, n_pairs, False, whole),
        Issue(f"Pairs whose box is under {SMALL} px", small_text, n_small, n_pairs, False, small),
    ]


def _blurred(look: Look) -> Issue:
    n, shown = _regions(look, lambda s: s.entropy > BLURRED)
    n_regions = sum(len(s.reasons) for s in look.seen)
    text = "Their probabilities are nearly equal over all concepts: tau may be too high for this teacher."
    return Issue("Regions whose label is a guess", text, n, n_regions, False, shown)


def _unlike(books: Books) -> Issue:
    far = unlike_shards(books.shards)
    names = [f"{name}: {rate:.2f} pairs a sample, {n} samples" for name, n, rate in far[:12]]
    text = "Their pairs a sample lie far from the median: often another source, or a damaged file."
    return Issue("Shards far from the others", text, len(far), len(books.shards), True, names=names)


def _duplicates(look: Look) -> Issue:
    alike: dict[int, list[Seen]] = defaultdict(list)
    for s in look.seen:
        if s.looks is not None:
            alike[s.looks].append(s)
    groups = [group for group in alike.values() if len(group) > 1]
    shown = [Shown(s) for group in groups for s in group[:2]]
    text = "Copies or resized copies, by a hash of brightness; among the samples looked at only."
    return Issue(
        "Images that look the same as another",
        text,
        sum(len(group) - 1 for group in groups),
        len(look.seen),
        False,
        shown[:PICTURES],
    )


def _regions(look: Look, which: Callable[[Seen], np.ndarray]) -> tuple[int, list[Shown]]:
    """How many regions `which` marks, and the first one of each of a few samples."""
    marked = [(s, np.flatnonzero(which(s))) for s in look.seen]
    shown = [Shown(s, int(regions[0])) for s, regions in marked if len(regions)]
    return sum(len(regions) for _, regions in marked), shown[:PICTURES]
