"""What a dataset holds, by its manifest alone: never by listing shards."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import yaml
from safetensors import safe_open

import storage


@dataclass(frozen=True)
class ShardRow:
    """One committed shard. url: where it lies; sha256 and n_bytes: of the file; n_samples: samples in it."""

    name: str
    url: str
    sha256: str
    n_bytes: int
    n_samples: int


@dataclass(frozen=True)
class Manifest:
    """All committed shards of a dataset, sorted by name, and the pool and fingerprint hashes that they share."""

    dataset: str
    shards: tuple[ShardRow, ...]
    pool: str
    fingerprint: str

    @property
    def n_samples(self) -> int:
        return sum(s.n_samples for s in self.shards)


def read_manifest(dataset: str) -> Manifest:
    """Reads `manifest.parquet`, or the rows in `manifest/` while a build has not finished.

    Raises FileNotFoundError where there is no manifest, and ValueError if shards were made with different
    concept pools or settings: their labels would not mean the same.
    """
    dataset = storage.absolute(dataset)
    rows = _rows(dataset)
    if not rows:
        raise FileNotFoundError(
            f"{dataset} holds no manifest: not a dataset, or no shard of it is committed yet"
        )
    for field in ("pool", "fingerprint"):
        values: dict[str, list[str]] = {}
        for row in rows:
            values.setdefault(str(row[field]), []).append(str(row["shard"]))
        if len(values) > 1:
            listed = "; ".join(
                f"{value[:12]}: {len(names)} shards, e.g. {names[0]}" for value, names in values.items()
            )
            raise ValueError(f"{dataset}: shards with different {field} hashes do not mix ({listed})")
    shards = [
        ShardRow(
            str(row["shard"]),
            storage.join(dataset, "shards", str(row["shard"])),
            str(row["sha256"]),
            int(row["n_bytes"]),
            int(row["n_samples"]),
        )
        for row in rows
        if row["n_samples"] > 0
    ]
    names = [s.name for s in shards]
    if len(set(names)) != len(names):
        raise ValueError(f"{dataset}: the manifest names a shard twice")
    return Manifest(
        dataset,
        tuple(sorted(shards, key=lambda s: s.name)),
        str(rows[0]["pool"]),
        str(rows[0]["fingerprint"]),
    )


def _rows(dataset: str) -> list[dict[str, Any]]:
    compacted = storage.join(dataset, "manifest.parquet")
    if storage.exists(compacted):
        return pq.read_table(io.BytesIO(storage.read_bytes(compacted))).to_pylist()
    folder = storage.join(dataset, "manifest")
    names = sorted(
        n for n in storage.listing(folder) if n.endswith(".json") and not n.startswith(storage.TEMPORARY)
    )
    return [json.loads(storage.read_bytes(storage.join(folder, n))) for n in names]


def read_concepts(dataset: str):
    """The dataset's concept text embeddings: float32 tensor [C, D], on the CPU."""
    fs, path = storage.filesystem(storage.join(dataset, "concept_pool", "text_embeddings.safetensors"))
    if fs.protocol in ("file", "local") or "file" in tuple(fs.protocol):
        with safe_open(path, framework="pt") as f:
            return f.get_tensor("text_embeddings").float()
    from safetensors.torch import load

    return load(fs.cat_file(path))["text_embeddings"].float()


def dataset_tau(dataset: str, default: float = 0.01) -> float:
    """`align.tau` of the settings that a dataset was built with; `default` where it has no settings.yaml."""
    url = storage.join(dataset, "settings.yaml")
    if not storage.exists(url):
        return default
    settings = yaml.safe_load(storage.read_bytes(url)) or {}
    return float((settings.get("align") or {}).get("tau", default))
