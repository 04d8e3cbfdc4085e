"""Are the pairs right? Kept regions and their labels against the true boxes and names. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.boxes import best_match

MATCHED = 0.5


@dataclass(frozen=True)
class Regions:
    """Labelled regions of one image, R of them.

    boxes: float32 [R, 4]. labels: int [R], concept ids. probabilities: float [R], of the label. kept: bool [R].
    mentioned: ids of the concepts that the image's captions name. scores: float [R], what pairs are kept and ranked by;
    None: the probabilities.
    """

    boxes: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    margins: np.ndarray
    kept: np.ndarray
    mentioned: frozenset[int]
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Objects:
    """True objects of one image: boxes float32 [n, 4], concept ids int [n]; -1 for a name that the pool lacks."""

    boxes: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Table:
    """All regions of a dataset, one row each, and what the truth says of them.

    iou: with the object that the region overlaps most; right: the label names that object. size: square root of the
    box's area. in_caption: the label is a concept that the captions name; object_in_caption: so is the object.
    image, object_index: where it belongs.
    """

    iou: np.ndarray
    right: np.ndarray
    kept: np.ndarray
    probability: np.ndarray
    margin: np.ndarray
    score: np.ndarray
    size: np.ndarray
    in_caption: np.ndarray
    object_in_caption: np.ndarray
    image: np.ndarray
    object_index: np.ndarray
    n_objects: int

    @property
    def matched(self) -> np.ndarray:
        """Regions that overlap an object with IoU above 0.5."""
        return self.iou > MATCHED


def compare(regions: Sequence[Regions], objects: Sequence[Objects]) -> Table:
    """Holds the regions of each image against its objects."""
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in Table.__dataclass_fields__ if name != "n_objects"
    }
    for image, (r, o) in enumerate(zip(regions, objects, strict=True)):
        overlap, index = best_match(r.boxes, o.boxes)
        true = np.where(index >= 0, np.append(o.labels, -1)[index], -1)
        sides = r.boxes[:, 2:] - r.boxes[:, :2]
        named = np.array(sorted(r.mentioned), int)
        row = {
            "iou": overlap,
            "right": (r.labels == true) & (true >= 0),
            "kept": r.kept.astype(bool),
            "probability": r.probabilities,
            "margin": r.margins,
            "score": r.probabilities if r.scores is None else r.scores,
            "size": np.sqrt(np.clip(sides.prod(1), 0, None)),
            "in_caption": np.isin(r.labels, named),
            "object_in_caption": np.isin(true, named),
            "image": np.full(len(r.boxes), image),
            "object_index": index,
        }
        for name, values in row.items():
            columns[name].append(values)
    joined = {name: np.concatenate(values) if values else np.zeros(0) for name, values in columns.items()}
    return Table(**joined, n_objects=sum(len(o.labels) for o in objects))


def summary(table: Table, chosen: np.ndarray | None = None) -> dict[str, float]:
    """Precision and recall of the kept regions (of `chosen`, bool, instead).

    precision: of those that overlap an object (IoU > 0.5), the share whose label names it. precision_of_all: the
    same over all of them, so that a region on no object counts as wrong. recall: objects that have a right pair.
    """
    kept = table.kept if chosen is None else chosen
    on_object = kept & table.matched
    right = on_object & table.right
    found = {(i, j) for i, j in zip(table.image[right], table.object_index[right], strict=True)}
    return {
        "n_pairs": int(kept.sum()),
        "on_object": _share(on_object.sum(), kept.sum()),
        "precision": _share(right.sum(), on_object.sum()),
        "precision_of_all": _share(right.sum(), kept.sum()),
        "recall": _share(len(found), table.n_objects),
    }


def by_threshold(table: Table, thresholds: Sequence[float]) -> dict[str, dict[str, float]]:
    """`summary` of the regions whose label's probability is above each threshold."""
    return {f"{t:g}": summary(table, table.probability > t) for t in thresholds}


def best(table: Table, share: float, rule: str = "score") -> np.ndarray:
    """bool, the best `share` of all regions by a column of the table; ties fall to the earlier region."""
    chosen = np.zeros(len(table.score), bool)
    n = round(share * len(chosen))
    chosen[np.argsort(-np.asarray(getattr(table, rule), np.float64), kind="stable")[:n]] = True
    return chosen


def by_yield(table: Table, shares: Sequence[float]) -> dict[str, dict[str, float]]:
    """`precision_of_all`, `precision` and `recall` of the best share of all regions, by probability, margin and score.

    Keep rules compare at an equal number of pairs, whatever their scales are.
    """
    found = {}
    for share in shares:
        row: dict[str, float] = {}
        for rule in ("probability", "margin", "score"):
            figures = summary(table, best(table, share, rule))
            row |= {f"{rule}_{name}": figures[name] for name in ("precision", "precision_of_all", "recall")}
        found[f"{share:g}"] = row
    return found


def by_group(table: Table, size_edges: Sequence[float] = (0.2, 0.4)) -> dict[str, dict[str, float]]:
    """`summary` of kept regions by size (share of the image's side), and by whether a caption names the object."""
    groups = {}
    edges = [0.0, *size_edges, np.inf]
    for name, low, high in zip(("small", "medium", "large"), edges[:-1], edges[1:], strict=True):
        groups[name] = (table.size >= low) & (table.size < high)
    groups["object_in_caption"] = table.object_in_caption
    groups["object_not_in_caption"] = ~table.object_in_caption
    return {name: summary(table, table.kept & chosen) for name, chosen in groups.items()}


def calibration(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> dict:
    """Expected calibration error over equal-width bins, the Brier score, and the reliability table."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(probability, edges) - 1, 0, bins - 1)
    rows, error = [], 0.0
    for b in range(bins):
        here = place == b
        if here.any():
            confidence, accuracy = float(probability[here].mean()), float(right[here].mean())
            error += here.mean() * abs(confidence - accuracy)
            rows.append({"n": int(here.sum()), "confidence": confidence, "accuracy": accuracy})
    brier = float(((probability - right) ** 2).mean()) if len(right) else float("nan")
    return {"ece": float(error) if len(right) else float("nan"), "brier": brier, "bins": rows}


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")
