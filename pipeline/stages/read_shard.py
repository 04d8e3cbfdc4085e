"""Stage 1 of relabelling: a part of the plan -> the stored samples of its shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import concepts, images, manifest, records
from pipeline.dataset.damage import DamagedDataset, by_repair
from pipeline.dataset.label_ranges import read_labels
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import part_rows
from pipeline.dataset.sample import SIDE_MEMBERS
from pipeline.dataset.shards import joined, read_shard
from pipeline.mentions import concept_phrases, concept_spans
from pipeline.stages.chain import Job, Payload


def damaged(dataset: Layout, what: str) -> DamagedDataset:
    """The error, with what to do."""
    return DamagedDataset(what, by_repair(dataset.url))


def stored_part(dataset: Layout, part: str, with_bytes: bool = True) -> tuple[dict[str, Any], bytes]:
    """The manifest row of a part that is there, and its shard's bytes (none where it has no sample).

    Raises DamagedDataset where there is no row or no shard, and for bytes that are not those that were committed.
    """
    row = manifest.read_row(dataset, part)
    if row is None:
        raise damaged(dataset, f"part {part} of {dataset.url} has no manifest row")
    if not row["shard"] or not with_bytes:
        return row, b""
    data = committed(dataset, dataset.shard(part))
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise damaged(dataset, f"{row['shard']} is damaged: its sha256 is not the manifest's")
    return row, data


def committed(dataset: Layout, url: str) -> bytes:
    """The bytes of a file that a manifest row names. Raises DamagedDataset where it is gone."""
    try:
        return storage.read_bytes(url)
    except FileNotFoundError as e:
        raise damaged(dataset, f"{url} is gone") from e


def stored_index(dataset: Layout, row: dict[str, Any]) -> pa.Table:
    """The index of a manifest row's shard. Raises DamagedDataset for one that is gone or not the one that was committed."""
    data = committed(dataset, dataset.index(row["part"]))
    if hashlib.sha256(data).hexdigest() != row["index_sha256"]:
        raise damaged(dataset, f"the index of {row['shard']} is damaged: its sha256 is not the manifest's")
    return pq.ParquetFile(storage.arrow_file(data)).read()


class ReadShard:
    """Reads the shard of the dataset that is relabelled; its rejects stay what they are."""

    name = "read"
    reads = records.PARTS
    writes = records.STORED
    #: Whether the images travel with the labels.
    with_images = True

    def __init__(self, job: Job):
        assert job.dataset is not None
        self._from = Layout(job.dataset)
        self._images = images.location_of(self._from)
        self._pool = concepts.load_pool(job.layout)

    def __call__(self, payload: Payload) -> pa.Table:
        ranges = self._images is None and not self.with_images
        row, data = stored_part(self._from, payload.part.name, with_bytes=not ranges)
        payload.rejects.rows.extend(row["rejects"])
        if not row["shard"]:
            return self.writes.empty_table()
        members = _labels(self._from, row) if ranges else self._members(row, data)
        return records.with_images(list(self._samples(payload, members)), self.writes)

    def _samples(
        self, payload: Payload, samples: Iterator[tuple[str, dict[str, bytes]]]
    ) -> Iterator[dict[str, Any]]:
        rows = part_rows(self._from, payload.part).to_pylist()
        planned = {r["source_key"]: r for r in rows if not r["problem"]}
        for key, members in samples:
            (extension,) = (name for name in members if name not in SIDE_MEMBERS)
            row = planned[json.loads(members["json"])["source_key"]]
            spans = concept_spans(self._pool, row["captions"], row["spans"])
            yield {
                "key": key,
                "extension": extension,
                "image": members[extension] if self.with_images else b"",
                "meta": members["json"].decode(),
                "arrays": members["npz"],
                "mentioned": self._pool.ids_of(row["mentions"]),
                "spans": spans,
                "phrases": concept_phrases(spans, row["phrases"]),
            }

    def _members(self, row: dict[str, Any], data: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Key and members of each sample, the image among them (empty where it lies elsewhere and is not asked for)."""
        if self._images is None:
            yield from read_shard(data)
        elif self.with_images:
            yield from joined(data, stored_part(self._images, row["part"])[1])
        else:
            index = stored_index(self._from, row)
            extensions = dict(zip(*(index[name].to_pylist() for name in ("key", "extension")), strict=True))
            for key, members in read_shard(data):
                yield key, {**members, extensions[key]: b""}


def _labels(dataset: Layout, row: dict[str, Any]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample of a part, without its image, which is not read. Raises DamagedDataset.

    A shard's sha256 needs all of it, so it is not compared: the index has one of its own, a .npz has checksums, a .json
    the key.
    """
    index = stored_index(dataset, row)
    try:
        for key, members in read_labels(dataset.shard(row["part"]), index):
            if json.loads(members["json"])["key"] != key:
                raise ValueError(f"sample {key} is another one")
            yield key, members
    except (FileNotFoundError, storage.ShortRead, ValueError, KeyError, TypeError) as e:
        raise damaged(dataset, f"{row['shard']} is damaged: {str(e)[:200]}") from e


class ReadLabels(ReadShard):
    """Reads labels alone: the images stay where they are, and of a dataset that has them they are not read."""

    with_images = False
