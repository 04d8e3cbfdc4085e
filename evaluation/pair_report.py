"""A built dataset (docs/format.md) against the truth: its pairs, its proposals, and other label policies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import yaml
from safetensors.torch import load as load_tensors

import storage
from concept_pool.pool import ConceptPool
from evaluation.metrics import boxes, pairs
from evaluation.truth import TruthSet
from pipeline.align import AlignSettings, align
from pipeline.dataset import shards

THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
YIELDS = (0.1, 0.25, 0.4)
POLICIES = ("pool", "caption", "blend")


@dataclass(frozen=True)
class Stored:
    """One sample of a dataset. regions: unit float32 [R, D], or [R, 0] where the dataset stores none."""

    source_key: str
    boxes_xyxy_norm: np.ndarray
    objectness: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    margins: np.ndarray
    kept: np.ndarray
    mentioned: list[int]
    regions: np.ndarray


def read(dataset: str) -> Iterator[Stored]:
    """Every sample of every committed shard, in order."""
    for row in shards.manifest_rows(dataset).values():
        if not row["n_samples"]:
            continue
        for _, members in shards.read_shard(
            storage.read_bytes(storage.join(dataset, "shards", row["shard"]))
        ):
            meta = json.loads(members["json"])
            arrays = shards.unpack_arrays(members["npz"])
            regions = arrays.get("region_embeddings", np.zeros((len(arrays["objectness"]), 0))).astype(
                np.float32
            )
            if "region_scales" in arrays:
                regions = regions * arrays["region_scales"][:, None]
            best = np.pad(arrays["topk_probs"].astype(np.float64), ((0, 0), (0, 1)))
            yield Stored(
                meta["source_key"],
                arrays["boxes_xyxy_norm"],
                arrays["objectness"],
                arrays["topk_ids"][:, 0].astype(int),
                best[:, 0],
                best[:, 0] - best[:, 1],
                arrays["kept"].astype(bool),
                meta["mentioned"],
                regions,
            )


def align_settings(dataset: str) -> AlignSettings:
    """The alignment that the dataset was built with."""
    document = yaml.safe_load(storage.read_bytes(storage.join(dataset, "settings.yaml"))) or {}
    known = {k: v for k, v in document.get("align", {}).items() if k in AlignSettings.__dataclass_fields__}
    return AlignSettings(**known)


def pair_report(dataset: str, truth: TruthSet) -> dict:
    """Precision, recall and calibration of the pairs, and recall of the proposals, on the samples the truth knows.

    With stored region embeddings, also under every label policy at the dataset's temperature and threshold.
    """
    pool = ConceptPool.load(storage.join(dataset, "concept_pool"))
    ids = concept_ids(truth.names, pool)
    known = {image.key: image for image in truth.images}
    samples = [(s, known[s.source_key]) for s in read(dataset) if s.source_key in known]
    if not samples:
        raise ValueError(f"{dataset} and the truth share no source key, e.g. '{next(iter(known), '')}'")
    stored = [s for s, _ in samples]
    objects = [pairs.Objects(image.boxes_xyxy_norm, ids[image.labels]) for _, image in samples]
    settings = align_settings(dataset)
    table = pairs.compare(
        [_regions(s, s.labels, s.probabilities, s.margins, s.kept) for s in stored], objects
    )
    report = {
        "n_images": len(samples),
        "n_objects": table.n_objects,
        "n_concepts": len(pool.names),
        "names_in_pool": float((ids >= 0).mean()),
        "policy": settings.policy,
        "pairs": policy_report(table),
        "proposals": boxes.recall(
            [s.boxes_xyxy_norm for s in stored], [image.boxes_xyxy_norm for _, image in samples]
        ),
    }
    if stored[0].regions.shape[1]:
        concepts = load_tensors(
            storage.read_bytes(storage.join(dataset, "concept_pool", "text_embeddings.safetensors"))
        )["text_embeddings"].float()
        report["policies"] = {
            policy: policy_report(relabel(stored, objects, concepts, replace(settings, policy=policy)))
            for policy in POLICIES
        }
    return report


def policy_report(table: pairs.Table) -> dict:
    """Everything that is said of one labelling."""
    matched = table.matched
    return {
        "all": pairs.summary(table),
        "by_threshold": pairs.by_threshold(table, THRESHOLDS),
        "by_yield": pairs.by_yield(table, YIELDS),
        "by_group": pairs.by_group(table),
        "calibration": pairs.calibration(table.probability[matched], table.right[matched]),
    }


def relabel(
    stored: Sequence[Stored],
    objects: Sequence[pairs.Objects],
    concepts: torch.Tensor,
    settings: AlignSettings,
) -> pairs.Table:
    """The stored regions labelled anew under `settings`, against the truth."""
    regions = []
    for s in stored:
        a = align(torch.from_numpy(s.regions), concepts, s.mentioned, settings)
        labels, best = a.topk_ids[:, 0].astype(int), a.topk_probs[:, 0].astype(np.float64)
        regions.append(_regions(s, labels, best, a.margin.astype(np.float64), a.kept))
    return pairs.compare(regions, objects)


def concept_ids(names: Sequence[str], pool: ConceptPool) -> np.ndarray:
    """The pool's id of each class name, int [C]; -1 where the pool has no class for it."""
    found = [pool.ids_of([name]) for name in names]
    return np.array([ids[0] if ids else -1 for ids in found])


def _regions(
    s: Stored, labels: np.ndarray, probabilities: np.ndarray, margins: np.ndarray, kept: np.ndarray
) -> pairs.Regions:
    return pairs.Regions(s.boxes_xyxy_norm, labels, probabilities, margins, kept, frozenset(s.mentioned))
