"""Facts about a dataset as JSON values: its figures, one shard, one sample. Nothing is read but what is asked for."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa

import storage
from pipeline.dataset import Dataset, ShardRow, manifest
from pipeline.dataset.damage import reading
from pipeline.dataset.npz import read_npz
from pipeline.scores import REASONS
from reports.books import open_books

#: Shard indices that are asked for at once.
THREADS = 16
#: Hex digits of a key that are enough to look for it.
LEAST_DIGITS = 4


def stats(dataset: Dataset, top: int) -> dict[str, Any]:
    """The figures of a dataset, from its manifest alone; of one that is still being built, so far.

    top: concepts that are listed, those with most pairs first.
    """
    books = open_books(dataset)
    counts = books.counts
    names = dataset.pool.names
    order = sorted(range(len(names)), key=lambda i: (-int(books.pairs_of[i]), i))
    return {
        "dataset": dataset.url,
        "complete": bool(books.summary),
        "adds_up": books.add_up,
        **counts,
        "n_shards": len(dataset.shards),
        "keep_rate": counts["n_pairs"] / counts["n_regions"] if counts["n_regions"] else 0.0,
        "pairs_a_sample": counts["n_pairs"] / counts["n_samples"] if counts["n_samples"] else 0.0,
        "rejects_by_reason": dict(books.rejects) if books.summary else _rejects(dataset),
        "n_concepts": len(names),
        "n_concepts_without_pair": int((books.pairs_of == 0).sum()),
        "top_concepts": [
            {"concept": names[i], "id": i, "n_pairs": int(books.pairs_of[i])}
            for i in order[:top]
            if books.pairs_of[i]
        ],
        "fingerprint": dataset.fingerprint,
        "pool": dataset.pool_hash,
        "last_run": books.summary.get("last_run", {}),
    }


def _rejects(dataset: Dataset) -> dict[str, int]:
    """Rejects by reason, by falling number, of what is committed so far."""
    found: Counter[str] = Counter()
    for row in manifest.read_rows(dataset.layout, manifest.committed(dataset.layout)):
        for reject in (row or {}).get("rejects", []):
            found[reject["reason"]] += reject["n_samples"]
    return dict(found.most_common())


def show(dataset: Dataset, name: str) -> dict[str, Any]:
    """What the dataset holds under `name`: a shard (with or without .tar) or a sample, by its key or the start of it.

    Reads the shards' indices until the sample is found, then that sample's bytes. Raises ValueError where there is none, or
    more than one.
    """
    for shard in dataset.shards:
        if name in (shard.name, shard.part):
            return _shard(dataset, shard)
    if len(name) < LEAST_DIGITS or name.strip("0123456789abcdef"):
        example = f"e.g. {dataset.shards[0].name}" if dataset.shards else "it has no samples"
        raise ValueError(
            f"'{name}' is no shard of {dataset.url} and no sample's key (24 hex digits, or the first "
            f"{LEAST_DIGITS} or more); {example}"
        )
    return _sample(dataset, *_find(dataset, name))


def _find(dataset: Dataset, start: str) -> tuple[ShardRow, dict[str, Any]]:
    """The shard of the one sample whose key begins so, and its row of the shard's index."""
    found: list[tuple[ShardRow, dict[str, Any]]] = []
    tables = storage.map_threads(_index, dataset.shards, THREADS)
    for shard, table in zip(dataset.shards, tables, strict=True):
        keys = table.column("key").to_pylist()
        found += [
            (shard, table.slice(i, 1).to_pylist()[0]) for i, key in enumerate(keys) if key.startswith(start)
        ]
        if len(found) > 1:
            listed = ", ".join(row["key"] for _, row in found[:3])
            raise ValueError(f"more than one key begins with '{start}': {listed}, ...; give more digits")
        if found and len(start) == len(found[0][1]["key"]):
            break
    if not found:
        raise ValueError(f"no sample of {dataset.url} has a key that begins with '{start}'")
    return found[0]


def _index(shard: ShardRow) -> pa.Table:
    return shard.places()


def _shard(dataset: Dataset, shard: ShardRow) -> dict[str, Any]:
    index = _index(shard).to_pylist()
    row = manifest.read_row(dataset.layout, shard.part) or {}
    names = dataset.pool.names
    pairs = zip(row.get("concept_ids", []), row.get("concept_counts", []), strict=True)
    top = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:10]
    plain = {k: v for k, v in row.items() if k not in ("concept_ids", "concept_counts")}
    return {
        "kind": "shard",
        **plain,
        "url": shard.url,
        "top_concepts": {names[i]: n for i, n in top},
        "samples": [
            {"key": r["key"], "extension": r["extension"], "image_bytes": r["image_bytes"]} for r in index
        ],
    }


def _sample(dataset: Dataset, shard: ShardRow, row: dict[str, Any]) -> dict[str, Any]:
    """A sample's .json member, what its regions became, and the shapes of its arrays; the image is not read."""
    meta, arrays = (
        shard.read(shard.url, row[f"{kind}_offset"], row[f"{kind}_offset"] + row[f"{kind}_bytes"])
        for kind in ("json", "npz")
    )
    with reading(shard.url, shard.advice):
        stored, about = read_npz(arrays), json.loads(meta)
        reasons = Counter(REASONS[int(code)] for code in stored["kept"])
    return {
        "kind": "sample",
        "key": row["key"],
        "shard": shard.name,
        "image": {
            "extension": row["extension"], "offset": row["image_offset"], "n_bytes": row["image_bytes"],
        },
        "meta": about,
        "regions": dict(reasons.most_common()),
        "arrays": {name: f"{a.dtype} {list(a.shape)}" for name, a in stored.items()},
    }  # fmt: skip
