"""A dataset with other labels: label policies from stored region embeddings, and controls that tell learning from luck.

A variant is a dataset like any other (docs/format.md), so the trainer reads it as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load as load_tensors

import storage
from concept_pool.pool import ConceptPool
from evaluation.metrics.boxes import best_match
from evaluation.metrics.pairs import MATCHED
from evaluation.pair_report import align_settings, concept_ids
from evaluation.truth import TrueImage, TruthSet
from pipeline.align import AlignSettings, align
from pipeline.dataset import shards
from pipeline.stages.annotate import alignment_arrays

#: pool, caption, blend: the label policies. oracle: the true name on every region that overlaps an object with IoU
#: above 0.5, nothing on the others. swapped, swapped-oracle: caption and oracle labels, but x and y of the boxes
#: exchanged. shuffled: caption labels and caption embeddings of another image.
VARIANTS = ("pool", "caption", "blend", "oracle", "swapped", "swapped-oracle", "shuffled")


def write_variant(
    dataset: str, out: str, variant: str, truth: TruthSet | None = None, **changes: Any
) -> None:
    """Writes the variant of `dataset` to `out`, part by part; nothing if it is there already.

    dataset: needs stored region embeddings. changes: fields of AlignSettings, e.g. threshold. truth: for `oracle`.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant: '{variant}' is none of {', '.join(VARIANTS)}")
    done = storage.join(out, "variant.json")
    if storage.exists(done):
        return
    policy = variant if variant in ("pool", "caption", "blend") else "caption"
    settings = replace(align_settings(dataset), policy=policy, **changes)
    relabel = Relabel(dataset, variant, settings, truth)
    for name in ("text_embeddings.safetensors", "concepts.parquet", "rejected.parquet", "pool.json"):
        source = storage.join(dataset, "concept_pool", name)
        storage.write_bytes(storage.join(out, "concept_pool", name), storage.read_bytes(source))
    document = yaml.safe_load(storage.read_bytes(storage.join(dataset, "settings.yaml")))
    document["align"] |= {"policy": policy, **changes}
    storage.write_bytes(storage.join(out, "settings.yaml"), yaml.safe_dump(document).encode())
    for row in shards.manifest_rows(dataset).values():
        if not row["n_samples"]:
            continue
        samples = list(relabel(storage.read_bytes(storage.join(dataset, "shards", row["shard"]))))
        identity = {"fingerprint": f"{row['fingerprint']} {variant}", "pool": row["pool"]}
        shards.commit(out, row["part"], len(samples), samples, [], identity, dict)
    storage.write_bytes(done, json.dumps({"dataset": dataset, "variant": variant, **changes}).encode())


class Relabel:
    """The samples of one shard, labelled anew: rows of `records.ANNOTATED`."""

    def __init__(self, dataset: str, variant: str, settings: AlignSettings, truth: TruthSet | None):
        pool = ConceptPool.load(storage.join(dataset, "concept_pool"))
        embeddings = storage.read_bytes(storage.join(dataset, "concept_pool", "text_embeddings.safetensors"))
        self._concepts = load_tensors(embeddings)["text_embeddings"].float()
        self._variant, self._settings = variant, settings
        self._known: dict[str, TrueImage] = {}
        if variant.endswith("oracle"):
            if truth is None:
                raise ValueError(f"variant {variant}: needs the truth")
            self._known = {image.key: image for image in truth.images}
            self._ids = concept_ids(truth.names, pool)

    def __call__(self, shard: bytes) -> Iterator[dict[str, Any]]:
        members = list(shards.read_shard(shard))
        metas = [json.loads(m["json"]) for _, m in members]
        arrays = [shards.unpack_arrays(m["npz"]) for _, m in members]
        for i, (key, member) in enumerate(members):
            # Within its shard every image takes the captions of the next one but six.
            other = (i + 7) % len(members) if self._variant == "shuffled" else i
            changed = self._label(arrays[i], metas[i], metas[other]["mentioned"])
            changed["caption_embeddings"] = arrays[other]["caption_embeddings"]
            meta = metas[i] | {"captions": metas[other]["captions"], "mentioned": metas[other]["mentioned"]}
            kept = changed["kept"].astype(bool)
            extension = next(e for e in member if e not in ("json", "npz"))
            yield {
                "key": key,
                "extension": extension,
                "image": member[extension],
                "meta": json.dumps(meta | {"n_pairs": int(kept.sum()), "pairs": []}),
                "arrays": shards.pack_arrays(changed),
                "n_regions": len(kept),
                "n_pairs": int(kept.sum()),
                "pair_concept_ids": changed["topk_ids"][kept, 0].astype(int).tolist(),
            }

    def _label(
        self, arrays: dict[str, np.ndarray], meta: dict[str, Any], mentioned: list[int]
    ) -> dict[str, np.ndarray]:
        regions = torch.from_numpy(arrays["region_embeddings"].astype(np.float32))
        if "region_scales" in arrays:
            regions = regions * torch.from_numpy(arrays["region_scales"])[:, None]
        alignment = align(regions, self._concepts, mentioned, self._settings)
        changed = arrays | alignment_arrays(alignment, len(self._concepts))
        if self._variant.endswith("oracle"):
            changed |= self._true_labels(changed, self._known[meta["source_key"]])
        if self._variant.startswith("swapped"):
            changed["boxes_xyxy_norm"] = np.ascontiguousarray(arrays["boxes_xyxy_norm"][:, [1, 0, 3, 2]])
        return changed

    def _true_labels(self, arrays: dict[str, np.ndarray], image: TrueImage) -> dict[str, np.ndarray]:
        overlap, index = best_match(arrays["boxes_xyxy_norm"], image.boxes_xyxy_norm)
        label = self._ids[image.labels[index]]
        known = (overlap > MATCHED) & (label >= 0)
        ids, probabilities = arrays["topk_ids"].copy(), np.zeros_like(arrays["topk_probs"])
        for row in np.flatnonzero(known):
            # A permutation of the stored ids with the true one in front, so that ids stay unique within a row.
            rest = ids[row][ids[row] != label[row]][: ids.shape[1] - 1]
            ids[row] = np.concatenate([[label[row]], rest])
            probabilities[row, 0] = 1
        residual = np.where(known, 0, 1).astype(arrays["residual"].dtype)
        return {
            "topk_ids": ids,
            "topk_probs": probabilities,
            "residual": residual,
            "kept": known.astype(np.uint8),
        }
