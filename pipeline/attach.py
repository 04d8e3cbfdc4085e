"""A user's parquet file -> columns beside a dataset, by key or by key and region, a file a part.

The file is read in batches and its rows are laid in some local buckets of neighbouring parts; then a bucket at a time is
sorted and written. Memory holds a bucket and 28 bytes a sample of the dataset, not the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import storage
from pipeline.dataset import Dataset, claim, columns
from pipeline.dataset.columns import Attachment
from pipeline.dataset.layout import Layout
from pipeline.dataset.shards import to_parquet

#: Rows of the file in a batch and, about, in a bucket.
BATCH, BUCKET = 1 << 13, 1 << 20
MOST_BUCKETS = 256


def attach(dataset: str, file: str, name: str, replace: bool = False) -> Attachment:
    """Writes the columns of a parquet file to `columns/NAME` of a dataset; returns what was attached.

    The file has a column `key`, perhaps `region` (row of the sample's arrays), and others. Rows of an unknown key, and all
    but the first of one key (and region), are left out and counted. The same file under the same name is nothing to do.
    Raises ValueError for another file under a name that is taken, unless `replace`; for a file without these columns; and
    where somebody writes the dataset.
    """
    if not columns.NAME.fullmatch(name):
        raise ValueError(f"name: must be lower-case letters, digits, - and _, is '{name}'")
    opened = Dataset.open(dataset)
    layout, url = opened.layout, storage.location(file, "parquet")
    sha256 = storage.sha256(url)
    with claim.held(layout) as token:
        if name in columns.names(layout) and storage.exists(layout.attachment(name)) and not replace:
            there = columns.read(layout, name, opened.fingerprint)
            if there.source_sha256 == sha256:
                return there
            raise ValueError(f"name: the dataset has other columns '{name}' (--replace writes over them)")
        storage.remove(layout.attachment(name))  # from here on there are none
        with storage.open_parquet(url) as source, tempfile.TemporaryDirectory() as folder:
            by_region = _by_region(source.schema_arrow)
            buckets = _Buckets(opened, source.metadata.num_rows, Path(folder))
            counts: Counter[str] = Counter(n_rows=0, n_unknown=0, n_duplicates=0)
            for batch in source.iter_batches(BATCH):
                counts["n_rows"] += batch.num_rows
                counts["n_unknown"] += buckets.add(pa.Table.from_batches([batch]), by_region)
            buckets.close()
            storage.require_claim(layout.url, token)
            written = _write(layout, name, buckets, by_region, counts)
            others = [c for c in source.schema_arrow.names if c not in ("key", "region")]
        found = Attachment(name, opened.fingerprint, sha256, by_region, others, dict(counts), written)
        storage.require_claim(layout.url, token)
        _sweep(layout, found)
        return found


def _by_region(schema: pa.Schema) -> bool:
    if "key" not in schema.names:
        raise ValueError(f"parquet: needs a column key, has {', '.join(schema.names)[:300]}")
    if len(set(schema.names)) != len(schema.names) or not set(schema.names) - {"key", "region"}:
        raise ValueError(
            f"parquet: needs columns of different names besides key and region, has {schema.names}"
        )
    by_region = "region" in schema.names
    if by_region and not pa.types.is_integer(schema.field("region").type):
        raise ValueError(f"parquet: region must be a whole number, is {schema.field('region').type}")
    return by_region


class _Buckets:
    """Local files of rows whose samples lie in neighbouring parts."""

    def __init__(self, dataset: Dataset, n_rows: int, folder: Path):
        self.parts = [shard.part for shard in dataset.shards]
        indices = storage.map_threads(lambda s: s.places(["key"])["key"], dataset.shards, 16)
        keys = [np.asarray(k.to_pylist(), "S24") for k in indices]
        part = np.repeat(np.arange(len(keys), dtype=np.int32), [len(k) for k in keys])
        joined = np.concatenate(keys) if keys else np.zeros(0, "S24")
        order = np.argsort(joined, kind="stable")
        self._keys, self._part = joined[order], part[order]
        n = min(MOST_BUCKETS, max(1, math.ceil(n_rows / BUCKET)), max(1, len(keys)))
        self._parts_each = math.ceil(len(keys) / n) or 1
        self._folder = folder
        self._open: dict[int, pa.RecordBatchFileWriter] = {}
        self._files = contextlib.ExitStack()

    def add(self, rows: pa.Table, by_region: bool) -> int:
        """Lays rows in their buckets; how many are of no sample."""
        keys = rows["key"].cast(pa.string()).fill_null("")
        wanted = np.asarray([k.encode("utf-8", "replace") for k in keys.to_pylist()], np.bytes_)
        if not len(self._keys):
            return rows.num_rows
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        known = self._keys[at] == wanted
        rows = rows.set_column(rows.schema.get_field_index("key"), "key", keys)
        if by_region:
            regions = rows["region"].cast(pa.int64()).fill_null(-1)
            known &= regions.to_numpy() >= 0
            rows = rows.set_column(rows.schema.get_field_index("region"), "region", regions)
        rows = rows.append_column(_PART, pa.array(self._part[at]))
        bucket = self._part[at] // self._parts_each
        for number in np.unique(bucket[known]).tolist():
            mine = rows.take(np.flatnonzero(known & (bucket == number)))
            if number not in self._open:
                sink = self._files.enter_context((self._folder / str(number)).open("wb"))
                self._open[number] = self._files.enter_context(pa.ipc.new_stream(sink, mine.schema))
            self._open[number].write_table(mine)
        return int((~known).sum())

    def close(self) -> None:
        """Ends the writing."""
        self._files.close()

    def tables(self) -> Iterator[pa.Table]:
        """The buckets, one after the other."""
        for number in sorted(self._open):
            with (self._folder / str(number)).open("rb") as file, pa.ipc.open_stream(file) as stream:
                yield stream.read_all()


#: The column that says which part a row belongs to, in a bucket.
_PART = "\0part"


def _write(
    layout: Layout, name: str, buckets: _Buckets, by_region: bool, counts: Counter[str]
) -> dict[str, str]:
    """A file for each part that has rows; part -> sha256. Counts duplicates and rows that were attached."""
    import hashlib

    written = {}
    by = ["key", "region"] if by_region else ["key"]
    for table in buckets.tables():
        order = [(_PART, "ascending"), *((column, "ascending") for column in by), ("\0row", "ascending")]
        numbered = table.select([_PART, *by]).append_column("\0row", pa.array(np.arange(table.num_rows)))
        table = table.take(pc.sort_indices(numbered, order))
        again = _repeats(table, by)
        counts["n_duplicates"] += int(again.sum())
        table = table.filter(pa.array(~again))
        numbers = table[_PART].to_numpy()
        for number in np.unique(numbers).tolist():
            start, stop = np.searchsorted(numbers, [number, number + 1])
            rows = table.slice(start, stop - start).drop_columns([_PART]).combine_chunks()
            data = to_parquet(rows)
            part = buckets.parts[number]
            storage.write_bytes(layout.columns(name, part), data)
            written[part] = hashlib.sha256(data).hexdigest()
            counts["n_attached"] += rows.num_rows
    return written


def _repeats(table: pa.Table, by: list[str]) -> np.ndarray:
    """bool [rows]: whether a row of a sorted table has the values of the one before it."""
    same = np.ones(max(0, table.num_rows - 1), bool)
    for column in by:
        values = np.asarray(table[column].to_pylist())
        same &= values[1:] == values[:-1]
    return np.concatenate([np.zeros(min(1, table.num_rows), bool), same])


def _sweep(layout: Layout, found: Attachment) -> None:
    """Writes the record, last, and removes the files of an attachment that was replaced."""
    import hashlib

    for name in storage.names(layout.file(f"columns/{found.name}")):
        if name.removesuffix(".parquet") not in found.sha256:
            storage.remove(layout.file(f"columns/{found.name}/{name}"))
    parts = sorted(found.sha256)
    rows = {"part": parts, "sha256": [found.sha256[p] for p in parts]}
    data = to_parquet(pa.Table.from_pydict(rows, columns.FILES))
    storage.write_bytes(layout.columns(found.name, "files"), data)
    document: dict[str, Any] = dataclasses.asdict(found)
    document.pop("sha256")
    document["files_sha256"] = hashlib.sha256(data).hexdigest()
    storage.write_bytes(layout.attachment(found.name), json.dumps(document, indent=1).encode())
