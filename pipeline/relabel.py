"""A dataset with stored region embeddings -> the same images and regions under other labels, beside it.

Another pool, templates, tau, threshold or policy takes matrix products alone: no image is decoded and no image model
runs (a text encoder does, once, if the pool or its prompts change). The new folder is a dataset like any other, with the
same parts; it is committed part by part and resumed as a build is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import yaml

import storage
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates, templates_hash
from pipeline import build, fingerprint
from pipeline.align import Aligner
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset import shards
from pipeline.dataset.plan import Part, Plan
from pipeline.localizers import Proposals
from pipeline.run_local import default_workers
from pipeline.settings import BuildSettings
from pipeline.stages.annotate import Vocabulary, alignment_arrays, pair_rows, region_embedding_arrays

log = logging.getLogger("regionpairs")

#: Settings that may differ from the dataset's own. Whatever else is asked for needs a build.
CHANGEABLE = (
    "out",
    "align.",
    "pool.templates",
    "pool.ensemble",
    "workers",
    "threads",
    "recheck",
    "runtime",
    "teacher.device",
)
#: What a part's labels are not made of: copied from the dataset as it is.
COPIED = ("boxes_xyxy_norm", "objectness", "caption_embeddings")


class NotRelabelable(ValueError):
    """The dataset holds no region embeddings, is not complete, or the change asked for needs its images."""


def relabel(dataset: str, settings: BuildSettings, pool: str | None = None) -> dict[str, Any]:
    """Writes the dataset at `dataset` to `settings.out` with new labels; returns the summary of the new one.

    settings: the dataset's own with another `out` and, as wished, another `align`, `pool.templates`, `pool.ensemble`.
    pool: folder of another ConceptPool; None: the dataset's own. Which names a caption mentions stays as the
    dataset's build parsed it. Raises NotRelabelable, build.Refused, build.Incomplete.
    """
    started = time.time()
    dataset, out = storage.absolute(dataset), storage.absolute(settings.out)
    plan, rows = _source(dataset, settings, out)
    document = _claim(dataset, settings, out, pool)
    for folder in ("", "plan", "plan/mentions", "shards", "manifest", vocabulary.FOLDER):
        storage.sweep(storage.join(out, folder) if folder else out, older_than=started)
    record = _vocabulary(dataset, settings, out, pool)
    identity = {
        "fingerprint": fingerprint.digest({"components": document, "embeddings": record}),
        "pool": record["pool"],
    }
    _copy(dataset, out, [f"plan/mentions/{part.name}.parquet" for part in plan.parts])
    _copy(dataset, out, ["plan/plan.parquet", "plan/plan.json"])
    plan = Plan.read(out)
    todo = build.parts_to_do(settings, plan, identity)
    run = None
    if todo:
        work = PartRelabeler(dataset, settings, out, identity)
        clock = time.perf_counter()
        with ThreadPoolExecutor(settings.workers or default_workers(settings)) as pool_of_threads:
            done = list(pool_of_threads.map(lambda part: work(part, rows[part.name]), todo))
        wall_s = time.perf_counter() - clock
        run = {"runtime": "relabel", "n_parts_built": len(todo), "wall_s": round(wall_s, 2)}
        run |= {
            f"{name}_per_s": round(sum(r[f"n_{key}"] for r in done) / wall_s, 1)
            for name, key in (("images", "samples"), ("regions", "regions"))
        }
    return build.finish(settings, plan, identity, run)


class PartRelabeler:
    """Relabels one part at a time; shared by threads."""

    def __init__(self, dataset: str, settings: BuildSettings, out: str, identity: dict[str, str]):
        self._dataset, self._settings, self._out, self._identity = dataset, settings, out, identity
        self._vocabulary: Vocabulary = vocabulary.load_vocabulary(out)
        self._pool = ConceptPool.load(storage.join(out, vocabulary.FOLDER))
        self._aligner = Aligner(self._vocabulary.embeddings, settings.align)

    def __call__(self, part: Part, row: dict[str, Any]) -> dict[str, Any]:
        """The new manifest row of a part, given its row in the dataset. Raises build.Incomplete for a damaged shard."""
        torch.set_num_threads(self._settings.threads)  # the setting is one of the calling thread
        clock = time.perf_counter()
        samples: list[dict[str, Any]] = []
        if row["shard"]:
            data = storage.read_bytes(storage.join(self._dataset, "shards", row["shard"]))
            if hashlib.sha256(data).hexdigest() != row["sha256"]:
                raise build.Incomplete(
                    f"{row['shard']} is damaged: complete the dataset first (the build repairs it)"
                )
            read_s = time.perf_counter() - clock
            samples = list(self._samples(part, data))
        else:
            read_s = time.perf_counter() - clock
        compute_s = time.perf_counter() - clock - read_s
        committing = time.perf_counter()
        return shards.commit(
            self._out,
            part.name,
            row["n_read"],
            samples,
            row["rejects"],
            self._identity,
            lambda: {"read": read_s, "compute": compute_s, "write": time.perf_counter() - committing},
        )

    def _samples(self, part: Part, data: bytes) -> Iterator[dict[str, Any]]:
        """Rows of `records.ANNOTATED`, with new labels."""
        mentioned = _mentioned(self._dataset, part, self._pool)
        unpacked = []
        for _, members in shards.read_shard(data):
            meta = json.loads(members.pop("json"))
            arrays = shards.unpack_arrays(members.pop("npz"))
            [(extension, image)] = members.items()
            unpacked.append((meta, arrays, extension, image))
        found = self._aligner(
            [stored_embeddings(arrays) for _, arrays, _, _ in unpacked],
            [mentioned.get(meta["source_key"], []) for meta, *_ in unpacked],
            [arrays["boxes_xyxy_norm"] for _, arrays, _, _ in unpacked],
        )
        for (meta, arrays, extension, image), alignment in zip(unpacked, found, strict=True):
            pairs = np.flatnonzero(alignment.kept)
            proposals = Proposals(arrays["boxes_xyxy_norm"], arrays["objectness"])
            meta |= {
                "mentioned": mentioned.get(meta["source_key"], []),
                "n_pairs": len(pairs),
                "pool": self._identity["pool"],
                "fingerprint": self._identity["fingerprint"],
                "pairs": pair_rows(proposals, alignment, pairs, self._vocabulary.names),
            }
            new = {name: arrays[name] for name in COPIED}
            new |= alignment_arrays(alignment, len(self._vocabulary.names))
            new |= self._embeddings(arrays)
            yield {
                "key": meta["key"],
                "extension": extension,
                "image": image,
                "meta": json.dumps(meta, ensure_ascii=False),
                "arrays": shards.pack_arrays(new),
                "n_regions": len(alignment.kept),
                "n_pairs": len(pairs),
                "pair_concept_ids": [int(i) for i in alignment.topk_ids[pairs, 0]],
            }

    def _embeddings(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The stored embeddings as they are, or in the form that the new settings ask for."""
        wanted = self._settings.align.region_embeddings
        if wanted == ("int8" if "region_scales" in arrays else "fp16"):
            return {name: arrays[name] for name in ("region_embeddings", "region_scales") if name in arrays}
        return region_embedding_arrays(stored_embeddings(arrays), self._settings.align)


def stored_embeddings(arrays: dict[str, np.ndarray]) -> torch.Tensor:
    """float32 [R, D] from an .npz member's `region_embeddings` (and `region_scales`, where they are int8)."""
    embeddings = torch.from_numpy(arrays["region_embeddings"]).float()
    if "region_scales" in arrays:
        embeddings = embeddings * torch.from_numpy(arrays["region_scales"])[:, None]
    return embeddings


def _source(dataset: str, settings: BuildSettings, out: str) -> tuple[Plan, dict[str, dict[str, Any]]]:
    """The dataset's plan and manifest rows, once it is certain that it can be relabelled as asked."""
    if out == dataset:
        raise NotRelabelable("out: the new labels need a folder of their own, beside the dataset")
    try:
        plan = Plan.read(dataset)
        was = yaml.safe_load(storage.read_bytes(storage.join(dataset, "settings.yaml")))
    except FileNotFoundError as e:
        raise NotRelabelable(f"dataset: {dataset} is no dataset ({e})") from e
    if was["align"]["region_embeddings"] == "none":
        raise NotRelabelable(
            "the dataset stores no region embeddings: build with align.region_embeddings fp16 or int8"
        )
    rows = shards.manifest_rows(dataset)
    if missing := [part.name for part in plan.parts if part.name not in rows]:
        raise NotRelabelable(
            f"the dataset is not complete: {len(missing)} of {len(plan.parts)} parts are missing"
        )
    changes = fingerprint.differences(was, json.loads(json.dumps(dataclasses.asdict(settings))))
    if other := [line for line in changes if not line.startswith(CHANGEABLE)]:
        raise NotRelabelable("this needs a build, not new labels: " + "; ".join(other))
    return plan, rows


def _claim(dataset: str, settings: BuildSettings, out: str, pool: str | None) -> dict[str, Any]:
    """What the new dataset is made with, written to it or compared with what is there. Raises build.Refused."""
    own = pool or storage.join(dataset, vocabulary.FOLDER)
    document = {
        "relabelled_from": sorted({row["fingerprint"] for row in shards.manifest_rows(dataset).values()}),
        "align": dataclasses.asdict(settings.align),
        "pool": ConceptPool.load(own).hash,
        "templates": templates_hash(load_templates(settings.pool.templates)),
        "ensemble": settings.pool.ensemble,
        "code": fingerprint.code_hash(),
    }
    document = json.loads(json.dumps(document))
    url = storage.join(out, "fingerprint.json")
    files = storage.tree(out) if storage.exists(out) else {}
    if "fingerprint.json" in files:
        if found := fingerprint.differences(json.loads(storage.read_bytes(url)), document):
            raise build.Refused(found)
        return document
    if foreign := [
        name for name in sorted(files) if storage.TEMPORARY not in name and name != "settings.yaml"
    ]:
        raise build.Refused([f"out: {out} holds {len(foreign)} files that are no dataset, e.g. {foreign[0]}"])
    resolved = yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False)
    storage.write_bytes(storage.join(out, "settings.yaml"), resolved.encode())
    storage.write_bytes(url, json.dumps(document, indent=1).encode())
    return document


def _vocabulary(dataset: str, settings: BuildSettings, out: str, pool: str | None) -> dict[str, Any]:
    """The pool and its embeddings in the new folder: copied where nothing about them changes, else encoded."""
    if record := vocabulary.embeddings_record(out):
        return record
    wanted = ConceptPool.load(pool or storage.join(dataset, vocabulary.FOLDER))
    wanted.save(storage.join(out, vocabulary.FOLDER))
    was = yaml.safe_load(storage.read_bytes(storage.join(dataset, "settings.yaml")))["pool"]
    old = vocabulary.embeddings_record(dataset)
    same = old is not None and old["pool"] == wanted.hash and was["ensemble"] == settings.pool.ensemble
    if (
        same
        and old is not None
        and old["templates"] == templates_hash(load_templates(settings.pool.templates))
    ):
        _copy(
            dataset,
            out,
            [f"{vocabulary.FOLDER}/{n}" for n in ("text_embeddings.safetensors", "embeddings.json")],
        )
        return old
    log.info("encoding %d concepts", len(wanted.names))
    return vocabulary.embed(settings, out)


def _mentioned(dataset: str, part: Part, pool: ConceptPool) -> dict[str, list[int]]:
    """Source key -> ids of the new pool's concepts that the sample's captions name."""
    keys = Plan.read(dataset).rows(part).column("source_key").to_pylist()
    names = vocabulary.mentions(dataset, part)
    # The first of two equal keys is the sample (the second was rejected), so it must win.
    return {key: pool.ids_of(found) for key, found in reversed(list(zip(keys, names, strict=True)))}


def _copy(dataset: str, out: str, names: list[str]) -> None:
    """Copies files that are not there yet, each atomically."""
    for name in names:
        if not storage.exists(storage.join(out, name)):
            storage.write_bytes(storage.join(out, name), storage.read_bytes(storage.join(dataset, name)))
