"""Re-checks a dataset against its own manifest, byte by byte, and says what is missing, damaged or foreign."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

import storage
from concept_pool.pool import ConceptPool
from pipeline.dataset import concepts as vocabulary
from pipeline.dataset import shards
from pipeline.dataset.plan import Plan

ARRAYS = ("boxes_xyxy_norm", "objectness", "topk_ids", "topk_probs", "residual", "kept")


def verify(out: str) -> Iterator[str]:
    """One line for every fault found in the dataset at `out`; none if it is whole.

    Checks: every part of the plan has a manifest row and its shard; size, sha256, sample count, key order and array
    lengths of every shard; one pool and one fingerprint throughout; the pool and its embeddings against their hashes;
    `manifest.parquet` and `rejects.parquet` against the rows; read = written + rejected; nothing else in the folders.
    """
    out = storage.absolute(out)
    try:
        plan = Plan.read(out)
    except FileNotFoundError:
        yield f"missing: {out} holds no plan/plan.json, so it is no dataset"
        return
    except (ValueError, KeyError, TypeError) as e:
        yield f"damaged: plan/plan.json: {e!r}"
        return
    rows = shards.manifest_rows(out)
    yield from _plan_faults(plan)
    yield from _pool_faults(out, rows)
    yield from _foreign(out, plan)
    for part in plan.parts:
        row = rows.get(part.name)
        if row is None:
            yield f"missing: part {part.name} has no manifest row"
        elif row["n_read"] != part.n_samples or row["n_read"] != row["n_samples"] + row["n_rejected"]:
            yield f"damaged: part {part.name}: {part.n_samples} planned, its row does not add up to that"
        else:
            yield from _shard_faults(out, row)
    yield from _table_faults(out, plan, rows)


def _plan_faults(plan: Plan) -> Iterator[str]:
    url = storage.join(plan.out, "plan", "plan.parquet")
    if not storage.exists(url):
        yield "missing: plan/plan.parquet"
    elif storage.sha256(url) != plan.sha256:
        yield "damaged: plan/plan.parquet: its sha256 is not the one in plan.json"


def _pool_faults(out: str, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    try:
        record = json.loads(storage.read_bytes(storage.join(out, vocabulary.FOLDER, "embeddings.json")))
        changed = vocabulary.changed_files(out, record)
        pool = record["pool"]
    except FileNotFoundError:
        yield "missing: the concept pool (concept_pool/embeddings.json)"
        return
    except (ValueError, KeyError, TypeError) as e:
        yield f"damaged: concept_pool/embeddings.json: {e!r}"
        return
    for name in changed:
        yield f"damaged: concept_pool/{name}: missing, or its sha256 is not the one in embeddings.json"
    if not changed and ConceptPool.load(storage.join(out, vocabulary.FOLDER)).hash != pool:
        yield f"damaged: the concept pool's hash is not {pool}"
    for name, row in rows.items():
        if row["pool"] != pool:
            yield f"foreign: part {name} was made with pool {row['pool']}, the pool here is {pool}"
    if len(found := sorted({row["fingerprint"] for row in rows.values()})) > 1:
        yield f"foreign: shards of {len(found)} fingerprints: {', '.join(found)}"


def _foreign(out: str, plan: Plan) -> Iterator[str]:
    known = {"shards": {p.shard for p in plan.parts}, "manifest": {f"{p.name}.json" for p in plan.parts}}
    for folder, names in known.items():
        for name in sorted(storage.listing(storage.join(out, folder))):
            if name not in names:
                yield f"foreign: {folder}/{name}"


def _shard_faults(out: str, row: dict[str, Any]) -> Iterator[str]:
    if not row["shard"]:
        if row["n_samples"]:
            yield f"damaged: part {row['part']}: {row['n_samples']} samples and no shard"
        return
    name = f"shards/{row['shard']}"
    try:
        data = storage.read_bytes(storage.join(out, "shards", row["shard"]))
    except FileNotFoundError:
        yield f"missing: {name}"
        return
    if len(data) != row["n_bytes"]:
        yield f"damaged: {name}: {len(data)} bytes, the manifest says {row['n_bytes']}"
    elif hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield f"damaged: {name}: its sha256 is not the manifest's"
    else:
        yield from _sample_faults(data, name, row)


def _sample_faults(data: bytes, name: str, row: dict[str, Any]) -> Iterator[str]:
    """What is wrong inside a shard whose bytes are those that were committed."""
    keys: list[str] = []
    n_regions = n_pairs = 0
    try:
        for key, members in shards.read_shard(data):
            keys.append(key)
            meta = json.loads(members["json"])
            arrays = shards.unpack_arrays(members["npz"])
            lengths = {len(arrays[a]) for a in ARRAYS}
            if len(members) != 3 or lengths != {meta["n_regions"]}:
                yield f"damaged: {name}: sample {key}: members {sorted(members)}, array lengths {sorted(lengths)}"
            if meta["key"] != key or meta["fingerprint"] != row["fingerprint"] or meta["pool"] != row["pool"]:
                yield f"damaged: {name}: sample {key} does not belong to this shard"
            n_regions += meta["n_regions"]
            n_pairs += int(arrays["kept"].sum())
    except (tarfile.TarError, KeyError, ValueError, OSError) as e:
        yield f"damaged: {name}: {type(e).__name__}: {e}"
        return
    if keys != sorted(set(keys)):
        yield f"damaged: {name}: keys are not unique and sorted"
    if (len(keys), n_regions, n_pairs) != (row["n_samples"], row["n_regions"], row["n_pairs"]):
        yield f"damaged: {name}: {len(keys)} samples, {n_regions} regions, {n_pairs} pairs; the manifest differs"


def _table_faults(out: str, plan: Plan, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    ordered = [rows[p.name] for p in plan.parts if p.name in rows]
    rejects = [r for row in ordered for r in row["rejects"]]
    for name, expected, columns in (
        ("manifest.parquet", ordered, shards.MANIFEST.names),
        ("rejects.parquet", rejects, ["part", "stage", "source_key", "reason", "detail"]),
    ):
        try:
            with storage.open_read(storage.join(out, name)) as f:
                found = pq.read_table(f).to_pylist()
        except FileNotFoundError:
            yield f"missing: {name} (the build has not finished)"
            continue
        except (OSError, ValueError) as e:
            yield f"damaged: {name}: {e}"
            continue
        if found != [{c: r[c] for c in columns} for r in expected]:
            yield f"damaged: {name} does not say what the manifest rows say"
