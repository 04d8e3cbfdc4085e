"""A dataset with other labels: label policies from stored region embeddings, and controls that tell learning from luck.

A variant is derived from a dataset as a relabelled one is (pipeline/relabel.py), by a stage or two more, and is a
dataset like any other: `verify` calls it whole, and the same call goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa

import storage
from evaluation.metrics.boxes import best_match
from evaluation.metrics.pairs import MATCHED
from evaluation.pair_report import concept_ids
from evaluation.settings import TruthSettings
from evaluation.truth import load as load_truth
from pipeline.align import Alignment
from pipeline.dataset import Dataset, concepts, records, sample
from pipeline.dataset.npz import read_npz
from pipeline.relabel import derive
from pipeline.run_local import LocalRunner
from pipeline.runner import Runner
from pipeline.scores import BELOW_SCORE, KEPT
from pipeline.settings import BuildSettings
from pipeline.stages.chain import Job, Payload
from pipeline.stages.commit import Commit
from pipeline.stages.read_shard import ReadShard
from pipeline.stages.relabel import Relabel

#: Captions come from the image so many places further on in the shard.
SHUFFLE_STEP = 7
_NONE = np.zeros((0, 4), np.float32)


class ShuffleCaptions:
    """Every image of a shard takes the captions, and what they mention, of another one of it."""

    name = "shuffle"
    reads = records.STORED
    writes = records.STORED

    def __init__(self, job: Job):
        pass

    def __call__(self, payload: Payload) -> pa.Table:
        rows = payload.table.to_pylist()
        others = [rows[(i + SHUFFLE_STEP) % len(rows)] for i in range(len(rows))]
        return pa.Table.from_pylist(
            [_with_captions_of(row, other) for row, other in zip(rows, others, strict=True)], self.writes
        )


@dataclass(frozen=True)
class Known:
    """What `TrueLabels` is given: what the dataset was made of."""

    truth: TruthSettings

    def identity(self) -> dict[str, Any]:
        """JSON values that change with the true labels, and not with the place where they lie."""
        values = dataclasses.asdict(self.truth)
        instances = values.pop("instances")
        for name in ("images", "captions"):
            values.pop(name)
        return values | {"instances": storage.sha256(storage.absolute(instances)) if instances else None}


class TrueLabels:
    """The true name on every region that overlaps an object with IoU above 0.5, and nothing on the others.

    job.options: `Known`. An image that the truth lacks has no object; raises ValueError for a part of which it has none.
    """

    name = "truth"
    reads = records.ANNOTATED
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        known = load_truth(job.options.truth)
        pool = concepts.load_pool(job.layout)
        self._names = pool.names
        self._images = {image.key: image for image in known.images}
        self._ids = concept_ids(known.names, pool)

    def __call__(self, payload: Payload) -> pa.Table:
        rows = payload.table.to_pylist()
        metas = [json.loads(row["meta"]) for row in rows]
        keys = [meta["source_key"] for meta in metas]
        if keys and not any(key in self._images for key in keys):
            raise ValueError(
                f"the truth knows none of the part's images, e.g. '{keys[0]}'; it has '{next(iter(self._images), '')}'"
            )
        labelled = [self._row(row, meta) for row, meta in zip(rows, metas, strict=True)]
        return pa.Table.from_pylist(labelled, self.writes)

    def _row(self, row: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
        arrays = read_npz(row["arrays"])
        image = self._images.get(meta["source_key"])
        boxes, labels = (image.boxes_xyxy_norm, image.labels) if image else (_NONE, _NONE[:, 0].astype(int))
        overlap, index = best_match(arrays["boxes_xyxy_norm"], boxes)
        label = self._ids[labels[index]] if len(labels) else np.full(len(overlap), -1)
        alignment = certain(arrays["topk_ids"], np.where(overlap > MATCHED, label, -1))
        arrays = arrays | sample.alignment_arrays(alignment, len(self._names))
        del meta["pairs"]
        pairs = sample.pairs_json(arrays, alignment, self._names)
        return sample.annotated_row(row["key"], row["extension"], row["image"], meta, arrays, pairs)


class SwapAxes:
    """x and y of every box exchanged, as a reader that takes them in the wrong order has them."""

    name = "swap"
    reads = records.ANNOTATED
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        pass

    def __call__(self, payload: Payload) -> pa.Table:
        return pa.Table.from_pylist([self._row(row) for row in payload.table.to_pylist()], self.writes)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        meta, arrays = json.loads(row["meta"]), read_npz(row["arrays"])
        order = [1, 0, 3, 2]
        arrays = arrays | {"boxes_xyxy_norm": np.ascontiguousarray(arrays["boxes_xyxy_norm"][:, order])}
        for pair in meta["pairs"]:
            pair["box_xyxy_norm"] = [pair["box_xyxy_norm"][i] for i in order]
        return sample.annotated_row(row["key"], row["extension"], row["image"], meta, arrays)


@dataclass(frozen=True)
class Variant:
    """policy: how labels are made; stages: what becomes of them on the way."""

    policy: str
    stages: Sequence[Any] = (ReadShard, Relabel, Commit)

    @property
    def needs_truth(self) -> bool:
        return TrueLabels in self.stages


#: The label policies, and the controls.
VARIANTS: dict[str, Variant] = {
    "pool": Variant("pool"),
    "caption": Variant("caption"),
    "blend": Variant("blend"),
    "corpus": Variant("corpus"),
    "corpus-shuffled": Variant("corpus", (ReadShard, ShuffleCaptions, Relabel, Commit)),
    "oracle": Variant("caption", (ReadShard, Relabel, TrueLabels, Commit)),
    "swapped": Variant("caption", (ReadShard, Relabel, SwapAxes, Commit)),
    "swapped-oracle": Variant("caption", (ReadShard, Relabel, TrueLabels, SwapAxes, Commit)),
    "shuffled": Variant("caption", (ReadShard, ShuffleCaptions, Relabel, Commit)),
}


def write_variant(
    dataset: str,
    out: str,
    variant: str,
    truth: TruthSettings | None = None,
    runner: Runner | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Writes the variant of `dataset` to `out`, or completes it; returns the summary of the new dataset.

    dataset: needs stored region embeddings. truth: what it was made of, for `oracle`. runner: None is this process.
    changes: fields of AlignSettings, e.g. threshold. Raises ValueError and whatever `pipeline.relabel.derive` raises.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: '{variant}' is none of {', '.join(VARIANTS)}")
    chosen = VARIANTS[variant]
    if chosen.needs_truth and truth is None:
        raise ValueError(f"variant {variant}: needs the truth")
    was = from_document(BuildSettings, Dataset.open(dataset).settings)
    align = replace(was.align, policy=chosen.policy, **changes)
    settings = replace(was, out=out, align=align, runtime="local" if runner is None else was.runtime)
    options = Known(truth) if chosen.needs_truth and truth else None
    return derive(
        dataset, settings, chosen.stages, runner or LocalRunner(), f"variant {variant}", options=options
    )


S = TypeVar("S")


def from_document(kind: type[S], document: dict[str, Any]) -> S:
    """A settings dataclass from its fields as JSON or YAML values. Raises TypeError for a field that it lacks."""
    hints = get_type_hints(kind)
    nested = {
        k: from_document(hints[k], v) if dataclasses.is_dataclass(hints.get(k)) else v
        for k, v in document.items()
    }
    return kind(**nested)


def certain(ids: np.ndarray, labels: np.ndarray) -> Alignment:
    """The alignment of regions whose label is known: probability 1 on it; -1 is a region that nothing is said of.

    ids: int [R, k], distinct in each row, a permutation of which follows the label. labels: int [R].
    """
    ids, known = ids.astype(np.int32), labels >= 0
    probabilities = np.zeros(ids.shape, np.float32)
    for row in np.flatnonzero(known):
        rest = ids[row][ids[row] != labels[row]][: ids.shape[1] - 1]
        ids[row] = np.concatenate([[labels[row]], rest])
        probabilities[row, 0] = 1
    residual = np.where(known, 0, 1).astype(np.float32)
    certainty = known.astype(np.float32)
    reasons = np.where(known, KEPT, BELOW_SCORE).astype(np.uint8)
    return Alignment(ids, probabilities, residual, certainty, reasons, certainty)


def _with_captions_of(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    meta, theirs = json.loads(row["meta"]), json.loads(other["meta"])
    meta |= {"captions": theirs["captions"]}
    meta.pop("image_text_scores", None)  # they are of the image's own captions
    arrays = read_npz(row["arrays"]) | {"caption_embeddings": read_npz(other["arrays"])["caption_embeddings"]}
    return row | {
        "meta": json.dumps(meta, ensure_ascii=False),
        "arrays": sample.pack_arrays(arrays),
        "mentioned": other["mentioned"],
    }
