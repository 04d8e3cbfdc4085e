"""The concepts of a dataset for its report: counts of all, places on a map, and crops of some."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.dataset import Dataset
from pipeline.images import BadSample
from reports.books import Books
from reports.choose import read
from reports.issues import Shown
from reports.look import Seen
from reports.pictures import crop, shrunk

#: Crops of a concept: so many of its surest pairs, and of its least sure ones.
EACH = 3
#: Longer side of the image that crops are cut from.
CROP_FROM = 1024


def concept_rows(dataset: Dataset, books: Books, max_rows: int) -> list[dict[str, Any]]:
    """The `max_rows` concepts with most pairs: id, name, pairs, images whose captions name it, place on the map."""
    order = np.argsort(-books.pairs_of, kind="stable")[:max_rows]
    images = dataset.pool.table.column("n_images").to_pylist()
    places = flat_map(dataset.concepts().numpy(), order)
    names = dataset.pool.names
    return [
        {
            "id": int(c),
            "name": names[c],
            "pairs": int(books.pairs_of[c]),
            "images": int(images[c]),
            "x": round(float(x), 4),
            "y": round(float(y), 4),
        }
        for c, (x, y) in zip(order, places, strict=True)
    ]


def flat_map(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Places in [0, 1] x [0, 1] of some embeddings, float [len(rows), 2]: their two principal directions, by rank.

    Ranks spread the crowd in the middle; only neighbourhood has a meaning.
    """
    chosen = embeddings[rows].astype(np.float64)
    chosen /= np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    centred = chosen - chosen.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ directions[:2].T
    if flat.shape[1] < 2:
        flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    ranks = flat.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    return ranks / max(1, len(rows) - 1)


def surest(seen: Sequence[Seen], max_concepts: int) -> dict[int, tuple[list[Shown], list[Shown]]]:
    """Concept -> its surest and its least sure pairs, of the concepts with most pairs among the samples looked at."""
    pairs: dict[int, list[tuple[float, Shown]]] = defaultdict(list)
    for s in seen:
        for region in np.flatnonzero(s.kept):
            pairs[int(s.labels[region])].append((float(s.probabilities[region]), Shown(s, int(region))))
    found = {}
    for concept in sorted(pairs, key=lambda c: (-len(pairs[c]), c))[:max_concepts]:
        ordered = [shown for _, shown in sorted(pairs[concept], key=lambda p: -p[0])]
        found[concept] = (ordered[:EACH], ordered[EACH:][-EACH:])
    return found


def crops(dataset: Dataset, wanted: Sequence[Shown]) -> dict[tuple[str, int], str]:
    """(sample key, region) -> a data URI. Each image is read and decoded once; one that fails has no crop."""
    regions: dict[str, set[int]] = defaultdict(set)
    by_key = {}
    for shown in wanted:
        regions[shown.seen.key].add(shown.region)
        by_key[shown.seen.key] = shown.seen
    found = {}
    for sample in read(dataset, [seen.place for seen in by_key.values()]):
        try:
            picture = shrunk(sample.image, CROP_FROM)
        except BadSample:
            continue
        for region in regions[sample.key]:
            found[sample.key, region] = crop(picture, by_key[sample.key].boxes[region])
    return found
