"""The dataset on disk, reader beside writer. `Dataset.open(url)` is the handle that everything reads through."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import storage
from pipeline.dataset import columns as columns_of
from pipeline.dataset import concepts, manifest
from pipeline.dataset.damage import DamagedDataset, by_its_maker, reading
from pipeline.dataset.images import images_of
from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.dataset.manifest import ShardRow
from pipeline.dataset.sample import Sample
from pipeline.dataset.settings_file import settings_of
from pipeline.dataset.shards import joined, samples_of

if TYPE_CHECKING:
    import torch

    from concept_pool.pool import ConceptPool
    from pipeline.settings import AlignSettings

__all__ = ["Dataset", "Layout", "Sample", "ShardRow", "settings_of"]


@dataclass(frozen=True)
class Dataset:
    """A dataset, opened once and handed down.

    settings: those it was made with, as a document. shards: the committed ones with at least one sample, by name.
    pool_hash, fingerprint: what all of them were made with. images: the dataset that has the images, where this one
    holds labels alone; samples are joined to them by part and key.
    """

    layout: Layout
    settings: dict[str, Any]
    shards: tuple[ShardRow, ...]
    pool_hash: str
    fingerprint: str
    images: Layout | None = None

    @staticmethod
    def open(url: str, images: str | None = None) -> Dataset:
        """Reads settings and manifest; no shard is touched.

        images: where the images of a label-only dataset lie now, if not where it says (`images.json`).

        Raises FileNotFoundError where there is no dataset or nothing is committed yet, ValueError for one of another
        format version, for a damaged file, for images that moved or changed, and for shards of different pools or
        settings: their labels would not mean the same.
        """
        layout = Layout(storage.absolute(url))
        components = check_format(layout)
        place = images_of(layout, components, images)
        rows = manifest.rows_of(layout).to_pylist()
        if not rows:
            raise FileNotFoundError(f"{layout.url} holds no manifest: no shard of it is committed yet")
        for field in ("pool", "fingerprint"):
            _check_one(layout.url, field, rows)
        _check_own(layout, components, rows[0]["fingerprint"])
        others = _shards(place, manifest.rows_of(place).to_pylist()) if place else []
        of_part = {shard.part: shard for shard in others}
        shards = _shards(
            layout, rows, of_part if place else None, components.get("samples") or rows[0]["fingerprint"]
        )
        shards.sort(key=lambda s: s.name)
        if len({s.name for s in shards}) != len(shards):
            raise ValueError(f"{layout.url}: the manifest names a shard twice")
        own = rows[0]
        return Dataset(
            layout, settings_of(layout, components), tuple(shards), own["pool"], own["fingerprint"], place
        )

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

    @cached_property
    def attachments(self) -> list[str]:
        """The namespaces of the columns that users attached."""
        return columns_of.names(self.layout)

    def read(self, shard: ShardRow, columns: Sequence[str] = ()) -> Iterator[Sample]:
        """The samples of one shard, in order. columns: namespaces of attached columns that they shall carry.

        Raises DamagedDataset (a ValueError) if bytes are not those that were committed, ValueError for columns that are
        not there.
        """
        data = _checked(shard)
        attached = [columns_of.read(self.layout, name, self.fingerprint) for name in columns]
        rows = {a.name: a.of_part(self.layout, shard.part) for a in attached}
        if shard.images is None:
            samples = samples_of(data)
        else:
            samples = (Sample.parse(*sample) for sample in joined(data, _checked(shard.images)))
        if not columns:
            return samples
        return (replace(s, columns={name: of.get(s.key, {}) for name, of in rows.items()}) for s in samples)

    def samples(self, columns: Sequence[str] = ()) -> Iterator[Sample]:
        """Every sample, in order, with the attached columns of these namespaces."""
        for shard in self.shards:
            yield from self.read(shard, columns)


def _shards(
    layout: Layout,
    rows: list[dict[str, Any]],
    images: dict[str, ShardRow] | None = None,
    made_with: str = "",
) -> list[ShardRow]:
    """The shards of manifest rows. images: those with the images, by part. made_with: the samples' fingerprint. Raises
    ValueError where one is missing."""
    found = []
    for row in rows:
        part = row["part"]
        if not row["n_samples"]:
            continue
        if images is not None and part not in images:
            raise ValueError(
                f"{layout.url} holds labels alone, and the dataset of its images has no shard {part}"
            )
        found.append(
            ShardRow(
                row["shard"],
                part,
                layout.shard(part),
                row["sha256"],
                row["n_bytes"],
                row["n_samples"],
                layout.index(part),
                row["index_sha256"],
                images[part] if images is not None else None,
                made_with,
            )
        )
    return found


def _checked(shard: ShardRow) -> bytes:
    import hashlib

    data = shard.read(shard.url)
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise shard.damaged(f"{shard.name} is damaged: its sha256 is not the manifest's")
    return data


def check_format(layout: Layout) -> dict[str, Any]:
    """What the dataset says it was made with (`fingerprint.json`).

    Raises FileNotFoundError if there is no dataset, DamagedDataset where its file is gone or damaged, ValueError for one of
    another format version.
    """
    try:
        data = storage.read_bytes(layout.fingerprint)
    except FileNotFoundError as e:
        if storage.exists(layout.manifest):
            raise DamagedDataset(f"{layout.fingerprint} is gone", by_its_maker(layout.url)) from e
        raise FileNotFoundError(f"{layout.url} is no dataset: it holds no fingerprint.json") from e
    with reading(layout.fingerprint, by_its_maker(layout.url)):
        document = json.loads(data)
        version = document["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{layout.url} has format version {version}; this program reads version {FORMAT_VERSION}: build it again"
        )
    return document


def _check_own(layout: Layout, components: dict[str, Any], fingerprint: str) -> None:
    """Raises DamagedDataset where the manifest's rows are not of the dataset that the folder is."""
    from pipeline.fingerprint import identity_of

    expected = identity_of(layout, components)  # None: `verify` says so; whoever needs the pool will find out
    if expected and fingerprint != expected["fingerprint"]:
        raise DamagedDataset(
            f"{layout.url}: manifest.parquet, fingerprint.json and concept_pool/embeddings.json are not all of one dataset",
            by_its_maker(layout.url),
        )


def _check_one(url: str, field: str, rows: list[dict[str, Any]]) -> None:
    """Raises ValueError unless all rows have the same value of a field."""
    values = defaultdict(list)
    for row in rows:
        values[row[field]].append(row["shard"])
    if len(values) > 1:
        listed = "; ".join(f"{v[:12]}: {len(names)} shards, e.g. {names[0]}" for v, names in values.items())
        raise ValueError(f"{url}: shards with different {field} hashes do not mix ({listed})")
