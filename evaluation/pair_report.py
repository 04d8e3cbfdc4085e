"""A built dataset (docs/format.md) against the truth: its pairs, its proposals, and other label policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from concept_pool.pool import ConceptPool
from evaluation.metrics import boxes, pairs
from evaluation.truth import TrueImage, TruthSet
from pipeline.align import Aligner, Image
from pipeline.dataset import Dataset, Sample
from pipeline.dataset.sample import is_pair
from pipeline.standing import Standing, tell

THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
YIELDS = (0.02, 0.05, 0.1, 0.25, 0.4, 0.5)
POLICIES = ("pool", "caption", "blend")
#: The labels that the dataset holds, beside those of the policies.
STORED = "stored"
#: Images whose regions are aligned together.
BATCH_IMAGES = 16


def pair_report(dataset: Dataset, truth: TruthSet) -> dict:
    """Precision, recall and calibration of the pairs, and recall of the proposals, on the samples the truth knows.

    With stored region embeddings, also under every label policy at the dataset's temperature and threshold. Reads the
    dataset once, shard by shard. Raises ValueError where it and the truth share no source key.
    """
    ids = concept_ids(truth.names, dataset.pool)
    images, labelled = label(dataset, {image.key: image for image in truth.images})
    objects = [pairs.Objects(image.boxes_xyxy_norm, ids[image.labels]) for image in images]
    tables = {name: pairs.compare(regions, objects) for name, regions in labelled.items()}
    report = {
        "n_images": len(images),
        "n_objects": tables[STORED].n_objects,
        "n_concepts": len(dataset.pool.names),
        "names_in_pool": float((ids >= 0).mean()),
        "policy": dataset.align.policy,
        "pairs": policy_report(tables[STORED]),
        "proposals": boxes.recall(
            [regions.boxes for regions in labelled[STORED]], [image.boxes_xyxy_norm for image in images]
        ),
    }
    policies = {name: policy_report(table) for name, table in tables.items() if name != STORED}
    return report | ({"policies": policies} if policies else {})


def label(
    dataset: Dataset, known: Mapping[str, TrueImage]
) -> tuple[list[TrueImage], dict[str, list[pairs.Regions]]]:
    """The images that dataset and truth share, and their regions under each labelling: `STORED` and every policy."""
    images: list[TrueImage] = []
    aligners = _aligners(dataset)
    labelled: dict[str, list[pairs.Regions]] = {name: [] for name in (STORED, *aligners)}
    for samples in _batches(_shared(dataset, known)):
        images += [known[sample.meta["source_key"]] for sample in samples]
        tell(Standing("pairs against the truth", "images", len(images), len(known)))
        labelled[STORED] += [stored_regions(sample) for sample in samples]
        for policy, aligner in aligners.items():
            labelled[policy] += relabelled_regions(samples, aligner)
    return images, labelled


def _shared(dataset: Dataset, known: Mapping[str, TrueImage]) -> Iterator[Sample]:
    """The samples whose source key the truth knows. Raises ValueError, at the end, if there is none."""
    key, found = "", False
    for sample in dataset.samples():
        key = sample.meta["source_key"]
        if key in known:
            found = True
            yield sample
    if not found:
        raise ValueError(
            f"{dataset.url} and the truth share no source key: the dataset has '{key}', the truth "
            f"'{next(iter(known), '')}'"
        )


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == BATCH_IMAGES:
            yield batch
            batch = []
    if batch:
        yield batch


def _aligners(dataset: Dataset) -> dict[str, Aligner]:
    """One a label policy; none where the dataset stores no region embeddings."""
    if dataset.align.region_embeddings == "none":
        return {}
    concepts = dataset.concepts()
    return {policy: Aligner(concepts, replace(dataset.align, policy=policy)) for policy in POLICIES}


def stored_regions(sample: Sample) -> pairs.Regions:
    """The regions with the labels that the dataset holds. The margin of a single stored probability is itself."""
    arrays = sample.arrays
    best = np.pad(arrays["topk_probs"].astype(np.float64), ((0, 0), (0, 1)))
    labels, margins = arrays["topk_ids"][:, 0].astype(int), best[:, 0] - best[:, 1]
    return _regions(sample, labels, best[:, 0], margins, is_pair(arrays), arrays["scores"])


def relabelled_regions(samples: Sequence[Sample], aligner: Aligner) -> list[pairs.Regions]:
    """The same regions, labelled anew from their stored embeddings."""
    alignments = aligner(
        [torch.from_numpy(sample.region_embeddings()) for sample in samples],
        [Image.of_stored(sample.meta, sample.arrays) for sample in samples],
    )
    return [
        _regions(
            sample,
            a.topk_ids[:, 0].astype(int),
            a.topk_probs[:, 0].astype(np.float64),
            a.margin.astype(np.float64),
            a.kept,
            a.scores,
        )
        for sample, a in zip(samples, alignments, strict=True)
    ]


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


def concept_ids(names: Sequence[str], pool: ConceptPool) -> np.ndarray:
    """The pool's id of each class name, int [C]; -1 where the pool has no class for it."""
    found = [pool.ids_of([name]) for name in names]
    return np.array([ids[0] if ids else -1 for ids in found], int)


def _regions(
    sample: Sample,
    labels: np.ndarray,
    probabilities: np.ndarray,
    margins: np.ndarray,
    kept: np.ndarray,
    scores: np.ndarray,
) -> pairs.Regions:
    mentioned, boxes = frozenset(sample.meta["mentioned"]), sample.arrays["boxes_xyxy_norm"]
    return pairs.Regions(boxes, labels, probabilities, margins, kept, mentioned, scores.astype(np.float64))
