"""The dataset on disk, reader beside writer. `Dataset.open(url)` is the handle that everything reads through."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

import storage
from pipeline.dataset import concepts, manifest
from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.dataset.manifest import ShardRow
from pipeline.dataset.sample import Sample
from pipeline.dataset.shards import samples_of

if TYPE_CHECKING:
    import torch

    from concept_pool.pool import ConceptPool
    from pipeline.settings import AlignSettings

__all__ = ["Dataset", "Layout", "Sample", "ShardRow"]


@dataclass(frozen=True)
class Dataset:
    """A dataset, opened once and handed down.

    settings: those it was made with, as a document. shards: the committed ones with at least one sample, by name.
    pool_hash, fingerprint: what all of them were made with.
    """

    layout: Layout
    settings: dict[str, Any]
    shards: tuple[ShardRow, ...]
    pool_hash: str
    fingerprint: str

    @staticmethod
    def open(url: str) -> Dataset:
        """Reads settings and manifest; no shard is touched.

        Raises FileNotFoundError where there is no dataset or nothing is committed yet, ValueError for one of another
        format version, for a damaged file, and for shards of different pools or settings: their labels would not mean
        the same.
        """
        layout = Layout(storage.absolute(url))
        check_format(layout)
        rows = manifest.rows_of(layout).to_pylist()
        if not rows:
            raise FileNotFoundError(f"{layout.url} holds no manifest: no shard of it is committed yet")
        for field in ("pool", "fingerprint"):
            _check_one(layout.url, field, rows)
        shards = [
            ShardRow(
                row["shard"],
                row["part"],
                layout.shard(row["part"]),
                row["sha256"],
                row["n_bytes"],
                row["n_samples"],
                layout.index(row["part"]),
                row["index_sha256"],
            )
            for row in rows
            if row["n_samples"]
        ]
        shards.sort(key=lambda s: s.name)
        if len({s.name for s in shards}) != len(shards):
            raise ValueError(f"{layout.url}: the manifest names a shard twice")
        return Dataset(layout, _settings(layout), tuple(shards), rows[0]["pool"], rows[0]["fingerprint"])

    @property
    def url(self) -> str:
        return self.layout.url

    @property
    def n_samples(self) -> int:
        return sum(s.n_samples for s in self.shards)

    @cached_property
    def align(self) -> AlignSettings:
        """How its regions were matched to its concepts."""
        from pipeline.settings import AlignSettings

        known = self.settings.get("align") or {}
        return AlignSettings(**{k: v for k, v in known.items() if k in AlignSettings.__dataclass_fields__})

    @property
    def tau(self) -> float:
        """The temperature that its probabilities were computed with."""
        return self.align.tau

    @cached_property
    def pool(self) -> ConceptPool:
        return concepts.load_pool(self.layout)

    def concepts(self) -> torch.Tensor:
        """The text embeddings of the pool's classes: float32 [C, D], on the CPU."""
        return concepts.load_embeddings(self.layout)

    def read(self, shard: ShardRow) -> Iterator[Sample]:
        """The samples of one shard, in order. Raises ValueError if its bytes are not those that were committed."""
        import hashlib

        data = storage.read_bytes(shard.url)
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise ValueError(f"{shard.name} is damaged: its sha256 is not the manifest's")
        return samples_of(data)

    def samples(self) -> Iterator[Sample]:
        """Every sample, in order."""
        for shard in self.shards:
            yield from self.read(shard)


def check_format(layout: Layout) -> dict[str, Any]:
    """What the dataset says it was made with (`fingerprint.json`).

    Raises FileNotFoundError if there is no dataset, ValueError for one of another format version or a damaged file.
    """
    try:
        document = json.loads(storage.read_bytes(layout.fingerprint))
        version = document["format_version"]
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{layout.url} is no dataset: it holds no fingerprint.json") from e
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{layout.url}: fingerprint.json is damaged: {type(e).__name__}: {str(e)[:200]}"
        ) from e
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{layout.url} has format version {version}; this program reads version {FORMAT_VERSION}: build it again"
        )
    return document


def _settings(layout: Layout) -> dict[str, Any]:
    try:
        document = yaml.safe_load(storage.read_bytes(layout.settings))
    except yaml.YAMLError as e:
        raise ValueError(f"{layout.settings} is damaged: {' '.join(str(e).split())[:200]}") from e
    if not isinstance(document, dict):
        raise ValueError(f"{layout.settings} is damaged: it holds no settings")
    return document


def _check_one(url: str, field: str, rows: list[dict[str, Any]]) -> None:
    """Raises ValueError unless all rows have the same value of a field."""
    values = defaultdict(list)
    for row in rows:
        values[row[field]].append(row["shard"])
    if len(values) > 1:
        listed = "; ".join(f"{v[:12]}: {len(names)} shards, e.g. {names[0]}" for v, names in values.items())
        raise ValueError(f"{url}: shards with different {field} hashes do not mix ({listed})")
