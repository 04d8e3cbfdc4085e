"""Which score ranks pairs best? Calibrated and chosen on one half of the images, scored on the other.

    python benchmarks/pair_scores.py DATASET --truth shapes --seed 0 --count 2048 --shares 0.25 0.4 0.5
    python benchmarks/pair_scores.py DATASET --truth coco --images IMAGES --instances INSTANCES --shares 0.02 0.05 0.1

DATASET stores region embeddings. For each label policy: right of all and recall of the best share of the regions by
probability and by p * sigmoid(scale * objectness + offset) ** weight. The weight is the one with the most right pairs,
summed over the shares, in the half where scale and offset were fitted. Halves are by a hash of the source key. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from evaluation import truth as truths
from evaluation.metrics import pairs
from evaluation.metrics.boxes import best_match
from evaluation.pair_report import concept_ids, label
from evaluation.settings import TruthSettings
from pipeline.dataset import Dataset
from pipeline.scores import Objectness, fit_objectness, pair_scores

WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def half_of(key: str) -> int:
    """0 or 1, by content."""
    return hashlib.sha256(key.encode()).digest()[0] & 1


def scored(table: pairs.Table, objectness: np.ndarray, calibration: Objectness, weight: float) -> pairs.Table:
    """The same regions ranked by the score."""
    score = pair_scores(table.probability, objectness, "objectness", calibration, weight)
    return replace(table, score=score)


def right_and_recall(table: pairs.Table, shares: Sequence[float]) -> list[list[float]]:
    """A pair of figures a share, in percent."""
    found = [pairs.summary(table, pairs.best(table, share)) for share in shares]
    return [[round(100 * f[k], 1) for k in ("precision_of_all", "recall")] for f in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--truth", choices=("shapes", "coco"), default="shapes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--images")
    parser.add_argument("--instances")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.4, 0.5])
    a = parser.parse_args()
    torch.set_num_threads(1)
    known = truths.load(
        TruthSettings(kind=a.truth, seed=a.seed, count=a.count, images=a.images, instances=a.instances)
    )
    dataset = Dataset.open(a.dataset)
    ids = concept_ids(known.names, dataset.pool)
    images, labelled = label(dataset, {image.key: image for image in known.images})
    raw = {s.meta["source_key"]: s.arrays["objectness"] for s in dataset.samples()}
    halves = [[i for i, image in enumerate(images) if half_of(image.key) == h] for h in (0, 1)]
    objectness = [np.concatenate([raw[images[i].key] for i in half]) for half in halves]
    on_object = [
        np.concatenate(
            [
                best_match(labelled["pool"][i].boxes, images[i].boxes_xyxy_norm)[0] > pairs.MATCHED
                for i in half
            ]
        )
        for half in halves
    ]
    fits = [fit_objectness(o, y) for o, y in zip(objectness, on_object, strict=True)]
    rows = []
    for policy in ("pool", "caption", "blend"):
        tables = []
        for half in halves:
            objects = [pairs.Objects(images[i].boxes_xyxy_norm, ids[images[i].labels]) for i in half]
            tables.append(pairs.compare([labelled[policy][i] for i in half], objects))
        for fitted in (0, 1):

            def gain(weight: float, h: int = fitted, tables: list[pairs.Table] = tables) -> float:
                table = scored(tables[h], objectness[h], fits[h], weight)
                return sum(right for right, _ in right_and_recall(table, a.shares))

            weight, other = max(WEIGHTS, key=gain), 1 - fitted
            table = scored(tables[other], objectness[other], fits[fitted], weight)
            rows.append(
                {
                    "policy": policy,
                    "chosen_on": fitted,
                    "scale": round(fits[fitted].scale, 2),
                    "offset": round(fits[fitted].offset, 2),
                    "weight": weight,
                    "by_probability": right_and_recall(
                        replace(tables[other], score=tables[other].probability), a.shares
                    ),
                    "by_score": right_and_recall(table, a.shares),
                }
            )
            print(json.dumps(rows[-1]))
    print(json.dumps({"dataset": a.dataset, "images": len(images), "shares": a.shares, "rows": rows}))


if __name__ == "__main__":
    main()
