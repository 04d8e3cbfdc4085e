"""What changed between two datasets: settings, counts, concepts, and labels of the samples that both hold.

`before` is the dataset that the page compares with, `now` the one that it is about. Settings, counts and concepts are
of the whole of both, by their manifests. Labels are of the samples looked at in `now` that `before` holds too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.dataset import Dataset
from reports.books import Books, open_books
from reports.choose import plain
from reports.counterparts import counterparts
from reports.look import Look, Seen

#: Boxes are of the same region from this overlap (intersection over union) on.
SAME_BOX = 0.7
#: Rows of each list, and pictures of each row.
ROWS, PICTURES = 12, 6
#: Characters of a setting's value.
VALUE_CHARS = 160
_COUNTS = ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs", "n_bytes")


@dataclass(frozen=True)
class Change:
    """A region whose label is another one. before, now: (concept, probability), None where it is no pair.

    region: its number in the sample of `now`, -1 where only `before` has it; box: four numbers, xyxy in [0, 1].
    """

    seen: Seen
    region: int
    box: list[float]
    before: tuple[str, float] | None
    now: tuple[str, float] | None


@dataclass(frozen=True)
class Against:
    """before: the other dataset. changes: of all samples looked at that it holds, `n_both` of `n_looked`.

    n_same: regions that are pairs of the same concept in both.
    """

    before: Dataset
    books: Books
    changes: list[Change]
    n_both: int
    n_looked: int
    n_same: int

    def shown(self) -> list[Seen]:
        """The samples that `section` shows."""
        return [change.seen for row in rows(self.changes) for change in row["changes"]]


def compare(now: Dataset, looked: Look, before: Dataset) -> Against:
    """Looks at the samples of `looked` in `before` too: indices of a few shards and a byte range a sample are read."""
    names, old_names = now.pool.names, before.pool.names
    other = counterparts(looked.seen, before)
    changes: list[Change] = []
    n_same = 0
    for seen in looked.seen:
        if seen.key in other:
            same, found = changed(seen, other[seen.key], names, old_names)
            n_same += same
            changes += found
    return Against(before, open_books(before), changes, len(other), len(looked.seen), n_same)


def changed(
    now: Seen, before: Seen, names: Sequence[str], old_names: Sequence[str]
) -> tuple[int, list[Change]]:
    """How many regions are pairs of the same concept in both, and those that are not."""
    partner = partners(now.boxes, before.boxes)
    taken = set(partner[partner >= 0].tolist())
    same, found = 0, []
    for r, box in enumerate(now.boxes):
        new = _pair(now, r, names)
        old = _pair(before, int(partner[r]), old_names) if partner[r] >= 0 else None
        if new and old and new[0] == old[0]:
            same += 1
        elif new or old:
            found.append(Change(now, r, box.tolist(), old, new))
    for r in sorted(set(range(len(before.boxes))) - taken):
        if old := _pair(before, r, old_names):
            found.append(Change(now, -1, before.boxes[r].tolist(), old, None))
    return same, found


def _pair(seen: Seen, region: int, names: Sequence[str]) -> tuple[str, float] | None:
    if not seen.kept[region]:
        return None
    return names[int(seen.labels[region])], float(seen.probabilities[region])


def partners(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each box the one of `others` that it is the same region as, -1 for none; each is given once, best overlap first.

    boxes: [R, 4], others: [S, 4], xyxy; int64 [R]. Among equal overlaps, those of the same number come first.
    """
    found = np.full(len(boxes), -1, np.int64)
    if not len(boxes) or not len(others):
        return found
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    sides = np.maximum(np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    areas, other_areas = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    overlap = shared / np.maximum(areas[:, None] + other_areas[None] - shared, 1e-12)
    rows, columns = np.nonzero(overlap >= SAME_BOX)
    free = np.ones(len(others), bool)
    for i in np.lexsort((columns, rows, rows != columns, -overlap[rows, columns])):
        if found[rows[i]] < 0 and free[columns[i]]:
            found[rows[i]] = columns[i]
            free[columns[i]] = False
    return found


def rows(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """What changed, by (concept before, concept now), most regions first: a list of moves, of gone and of new pairs each.

    A row: kind (moved | new | gone), before, now (names, "" for none), n, changes (at most `PICTURES`, surest first, of
    different samples).
    """
    groups: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        groups[change.before[0] if change.before else "", change.now[0] if change.now else ""].append(change)
    ordered = sorted(groups.items(), key=lambda g: (-len(g[1]), g[0]))
    found: list[dict[str, Any]] = []
    for kind in ("moved", "new", "gone"):
        own = [g for g in ordered if kind == ("moved" if all(g[0]) else "new" if g[0][1] else "gone")]
        found += [
            {"kind": kind, "before": before, "now": now, "n": len(group), "changes": _surest(group)}
            for (before, now), group in own[:ROWS]
        ]
    return found


def _surest(group: Sequence[Change]) -> list[Change]:
    chosen: dict[str, Change] = {}
    for change in sorted(group, key=lambda c: (-(c.now or c.before or ("", 0.0))[1], c.seen.key, c.region)):
        chosen.setdefault(change.seen.key, change)
    return list(chosen.values())[:PICTURES]


def section(against: Against, now: Dataset, books: Books, place: dict[str, int]) -> dict[str, Any]:
    """The comparison as JSON values. place: sample key -> its number on the page."""
    kinds = Counter("moved" if c.before and c.now else "new" if c.now else "gone" for c in against.changes)
    before = against.before
    return {
        "name": plain(before.url.rstrip("/").rsplit("/", 1)[-1], 80),
        "same_pool": before.pool_hash == now.pool_hash,
        "settings": differing(before.settings, now.settings),
        "libraries": differing(against.books.made_with.get("libraries"), books.made_with.get("libraries")),
        "counts": [[n, against.books.counts[n], books.counts[n]] for n in _COUNTS]
        + [["n_concepts", len(before.pool.names), len(now.pool.names)]],
        "concepts": concept_moves(before, against.books, now, books),
        "n_both": against.n_both,
        "n_looked": against.n_looked,
        "n_same": against.n_same,
        "n": {kind: kinds[kind] for kind in ("moved", "new", "gone")},
        "rows": [
            {**row, "changes": [_change(c, place) for c in row["changes"]]} for row in rows(against.changes)
        ],
    }


def _change(change: Change, place: dict[str, int]) -> dict[str, Any]:
    sides = {
        side: [label[0], round(label[1], 3)] if label else None
        for side, label in (("before", change.before), ("now", change.now))
    }
    return {"sample": place[change.seen.key], "box": [round(v, 4) for v in change.box], **sides}


def concept_moves(before: Dataset, old: Books, now: Dataset, new: Books) -> list[tuple[str, int, int]]:
    """(concept, pairs before, pairs now) of the concepts whose share of all pairs moved most, by name."""
    pairs = [
        dict(zip(d.pool.names, b.pairs_of.tolist(), strict=True)) for d, b in ((before, old), (now, new))
    ]
    totals = [max(1, b.counts["n_pairs"]) for b in (old, new)]
    both = [(name, *(side.get(name, 0) for side in pairs)) for name in {**pairs[0], **pairs[1]}]
    moved = {name: abs(a / totals[0] - b / totals[1]) for name, a, b in both}
    both.sort(key=lambda row: (-moved[row[0]], row[0]))
    return [(name, a, b) for name, a, b in both[:ROWS] if moved[name]]


def differing(before: Any, now: Any, key: str = "") -> list[tuple[str, str, str]]:
    """(dotted key, value before, value now) of everything in which two documents differ; "" for what is not there."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [k for k in {**before, **now} if key or k != "out"]  # they lie in two places, of course
        found = []
        for k in keys:
            found += differing(before.get(k), now.get(k), f"{key}.{k}" if key else str(k))
        return found
    return [] if before == now else [(key, _text(before), _text(now))]


def _text(value: Any) -> str:
    return "" if value is None else plain(str(value), VALUE_CHARS)
