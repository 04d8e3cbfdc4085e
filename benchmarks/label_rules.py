"""What are agreement of two labelled datasets and the stored image-text score worth? Held against the truth of the world.

    python benchmarks/label_rules.py data/world-corpus --other data/world-student-corpus --seed 0
    python benchmarks/label_rules.py --quick

DATASET and OTHER are built from the same scenes (`source.kind: shapes`) of world `--seed`, with a score for every region.
*Agreement* (`regionpairs merge`): of the best regions of DATASET those stay for which OTHER has the same concept at IoU 0.5
among its own best; beside it as many of DATASET's best by score alone, so that both have the same number of pairs.
*Image-text score*: how often a caption that names only what is in its image scores higher than one that names something
else (area under the curve; over all captions, and within an image). `--quick` builds 96 scenes and takes `caption`
and `pool` labels. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labels import settings_of
from evaluation.metrics import pairs
from evaluation.pair_report import concept_ids, stored_regions
from evaluation.studies.variants import write_variant
from evaluation.truth import TruthSet, shapes_truth
from pipeline.build import build
from pipeline.dataset import Dataset, Sample
from pipeline.run_local import LocalRunner
from pipeline.scores import agreed
from world.captions import plural
from world.scenes import KINDS

SHARES = (0.25, 0.4, 0.5)
IOU = 0.5
#: Longest first, so that a compound wins over its last word.
NAMES = re.compile(
    r"\b("
    + "|".join(sorted((re.escape(n) for k in KINDS for n in (k, plural(k))), key=len, reverse=True))
    + r")\b"
)
KIND_OF = {name: kind for kind in KINDS for name in (kind, plural(kind))}


def agreement(samples: list[Sample], others: list[Sample], truth: TruthSet, ids: np.ndarray) -> list[dict]:
    """A row for each of SHARES: right of all and recall of the pairs that agree, and of as many by score alone."""
    known = {image.key: image for image in truth.images}
    objects = [pairs.Objects(i.boxes_xyxy_norm, ids[i.labels]) for i in map(_image(known), samples)]
    first = [stored_regions(sample) for sample in samples]
    second = [stored_regions(sample) for sample in others]
    table = pairs.compare(first, objects)
    rest = pairs.compare(second, objects)
    rows = []
    for share in SHARES:
        chosen, theirs = pairs.best(table, share), pairs.best(rest, share)
        same = np.concatenate(
            [
                agreed(a.boxes, a.labels, b.boxes[kept], b.labels[kept], IOU)
                for a, b, kept in zip(first, second, _split(theirs, second), strict=True)
            ]
        ).astype(bool)
        both = chosen & same
        alone = pairs.best(table, both.sum() / max(1, len(both)))
        rows.append(
            {"share_of_each": share, "agreed_share": round(float(both.mean()), 3)}
            | {f"agreed_{k}": v for k, v in _figures(table, both).items()}
            | {f"score_{k}": v for k, v in _figures(table, alone).items()}
        )
    return rows


def image_text(samples: list[Sample], truth: TruthSet) -> dict[str, float]:
    """How well the stored image-text scores tell right captions from wrong ones. Captions without a name are left out."""
    known = {image.key: image for image in truth.images}
    within: list[float] = []
    right: list[float] = []
    wrong: list[float] = []
    for sample in samples:
        shown = {truth.names[label] for label in _image(known)(sample).labels}
        here: dict[bool, list[float]] = {True: [], False: []}
        for caption, score in zip(sample.meta["captions"], sample.meta["image_text_scores"], strict=True):
            named = {KIND_OF[name] for name in NAMES.findall(caption.lower())}
            if named:
                here[named <= shown].append(score)
        right += here[True]
        wrong += here[False]
        within += [(a > b) + 0.5 * (a == b) for a in here[True] for b in here[False]]
    return {
        "captions": len(right) + len(wrong),
        "wrong_share": round(len(wrong) / max(1, len(right) + len(wrong)), 3),
        "auc": round(_auc(np.array(right), np.array(wrong)), 3),
        "auc_within_image": round(float(np.mean(within)), 3),
    }


def _image(known: dict[str, Any]) -> Any:
    return lambda sample: known[sample.meta["source_key"]]


def _split(chosen: np.ndarray, regions: list[pairs.Regions]) -> list[np.ndarray]:
    return np.split(chosen, np.cumsum([len(r.labels) for r in regions])[:-1])


def _figures(table: pairs.Table, chosen: np.ndarray) -> dict[str, float]:
    found = pairs.summary(table, chosen)
    return {
        "right_of_all": round(100 * found["precision_of_all"], 1),
        "recall": round(100 * found["recall"], 1),
    }


def _auc(above: np.ndarray, below: np.ndarray) -> float:
    """The chance that one of `above` is larger than one of `below`; equal ones count half."""
    order = np.sort(below)
    left, right = np.searchsorted(order, above, "left"), np.searchsorted(order, above, "right")
    return float((left + right).mean() / 2 / len(below))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", nargs="?", help="a labelled dataset of scenes")
    parser.add_argument("--other", help="a labelled dataset of the same scenes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    parser.add_argument("--quick", action="store_true", help="96 scenes, built here: under 50 s on 2 cores")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.quick:
            settings = settings_of(str(Path(folder) / "built"), 96, arguments.seed, 2)
            build(settings, LocalRunner())
            other = str(Path(folder) / "pool")
            write_variant(settings.out, other, "pool")
            arguments.dataset, arguments.other = settings.out, other
        print(json.dumps(measure(arguments.dataset, arguments.other, arguments.seed)))


def measure(url: str, other: str | None, seed: int) -> dict[str, Any]:
    """Both halves, of the datasets at `url` and `other`."""
    dataset = Dataset.open(url)
    samples = list(dataset.samples())
    truth = shapes_truth(seed, 0, len(samples))
    row: dict[str, Any] = {"scenes": len(samples), "seed": seed}
    if other:
        others = list(Dataset.open(other).samples())
        if [s.key for s in others] != [s.key for s in samples]:
            raise SystemExit(f"{other}: not of the same images as {url}")
        row["agreement"] = agreement(samples, others, truth, concept_ids(truth.names, dataset.pool))
    if "image_text_scores" in samples[0].meta:
        row["image_text"] = image_text(samples, truth)
    return row


if __name__ == "__main__":
    main()
