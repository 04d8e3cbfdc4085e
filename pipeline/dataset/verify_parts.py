"""Rows, shards and tables of a dataset, re-checked byte by byte, a block of parts at a time."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import blocks, manifest
from pipeline.dataset.blocks import Block
from pipeline.dataset.layout import Layout
from pipeline.dataset.sample import REGION_ARRAYS, Sample, is_pair
from pipeline.dataset.shards import read_shard

#: How a line begins that is about the dataset with the images of labels alone.
IMAGES = "images: "
_TABLE_ERRORS = (OSError, ValueError, pa.ArrowException)
_ERRORS = (tarfile.TarError, KeyError, ValueError, OSError, TypeError, EOFError)


@dataclass(frozen=True)
class BlockFaults:
    """What is wrong in a block: lines; the parts (in order) whose own files are wrong; and what its rows say together."""

    faults: list[str]
    parts: list[str]
    totals: Counter[str]
    manifest: pa.Table
    rejects: pa.Table


@dataclass(frozen=True)
class Expected:
    """What every row and sample of a dataset has to be.

    identity: the hashes of every row; None where they cannot be known. samples: the fingerprint that samples carry, where
    it is not their row's. labels_only: images lie elsewhere: in `images`, where that is known.
    """

    identity: dict[str, str] | None
    samples: str | None = None
    labels_only: bool = False
    images: Layout | None = None


def block_faults(layout: Layout, expected: Expected, block: Block) -> BlockFaults:
    """Everything about the rows and shards of a block of parts."""
    faults: list[str] = []
    parts: list[str] = []
    rows = []
    found = manifest.read_rows(layout, block.names)
    for name, n_samples, row in zip(block.names, block.n_samples, found, strict=True):
        wrong = list(_part_faults(layout, expected, name, n_samples, row))
        if row is not None:
            rows.append(row)
        faults += wrong
        if any(
            not fault.startswith(IMAGES) for fault in wrong
        ):  # what another dataset lacks is no fault of these labels
            parts.append(name)
    totals: Counter[str] = Counter()
    for row in rows:
        totals.update({k: row[k] for k in blocks.TOTALS})
    rejects = [reject for row in rows for reject in row["rejects"]]
    return BlockFaults(faults, parts, totals, blocks.rows_table(rows), blocks.rejects_table(rejects))


def _part_faults(
    layout: Layout, expected: Expected, name: str, n_samples: int, row: dict[str, Any] | None
) -> Iterator[str]:
    if row is None:
        yield f"missing: part {name} has no manifest row that is whole"
        return
    if row["n_read"] != n_samples or row["n_read"] != row["n_samples"] + row["n_rejected"]:
        yield f"damaged: part {name}: {n_samples} planned, its row does not add up to that"
    elif row["n_rejected"] != sum(r["n_samples"] for r in row["rejects"]):
        yield f"damaged: part {name}: its rejects are not {row['n_rejected']}"
    own = expected.identity
    if own is not None and {k: row[k] for k in own} != own:
        yield f"foreign: part {name} was made with {row['fingerprint']}, here is {own['fingerprint']}"
    yield from _shard_faults(layout, row, expected)


def _shard_faults(layout: Layout, row: dict[str, Any], expected: Expected) -> Iterator[str]:
    if not row["shard"]:
        return
    name = f"shards/{row['shard']}"
    try:
        data = storage.read_bytes(layout.shard(row["part"]))
    except FileNotFoundError:
        yield f"missing: {name}"
        return
    if len(data) != row["n_bytes"]:
        yield f"damaged: {name}: {len(data)} bytes, the manifest says {row['n_bytes']}"
    elif hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield f"damaged: {name}: its sha256 is not the manifest's"
    else:
        yield from _sample_faults(data, name, row, expected)
        yield from _index_faults(layout, data, row, expected)


def _sample_faults(data: bytes, name: str, row: dict[str, Any], expected: Expected) -> Iterator[str]:
    """What is wrong inside a shard whose bytes are those that were committed."""
    own = {"fingerprint": expected.samples or row["fingerprint"], "pool": row["pool"]}
    elsewhere = {"elsewhere": b""} if expected.labels_only else {}
    keys: list[str] = []
    n_regions = n_pairs = 0
    try:
        for key, members in read_shard(data):
            keys.append(key)
            members = {**members, **elsewhere}
            sample = Sample.parse(key, members)
            lengths = {len(sample.arrays[a]) for a in REGION_ARRAYS}
            if len(members) != 3 or lengths != {sample.meta["n_regions"]}:
                yield f"damaged: {name}: sample {key}: members {sorted(members)}, array lengths {sorted(lengths)}"
            if any(sample.meta[k] != v for k, v in {"key": key, **own}.items()):
                yield f"damaged: {name}: sample {key} does not belong to this shard"
            n_regions += sample.meta["n_regions"]
            n_pairs += int(is_pair(sample.arrays).sum())
    except _ERRORS as e:
        yield f"damaged: {name}: {type(e).__name__}: {str(e)[:200]}"
        return
    if keys != sorted(set(keys)):
        yield f"damaged: {name}: keys are not unique and sorted"
    if (len(keys), n_regions, n_pairs) != (row["n_samples"], row["n_regions"], row["n_pairs"]):
        yield f"damaged: {name}: {len(keys)} samples, {n_regions} regions, {n_pairs} pairs; the manifest differs"


def _index_faults(layout: Layout, data: bytes, row: dict[str, Any], expected: Expected) -> Iterator[str]:
    name = f"index/{row['part']}.parquet"
    try:
        index = storage.read_bytes(layout.index(row["part"]))
    except FileNotFoundError:
        yield f"missing: {name}"
        return
    if hashlib.sha256(index).hexdigest() != row["index_sha256"]:
        yield f"damaged: {name}: its sha256 is not the manifest's"
        return
    entries = pq.ParquetFile(storage.arrow_file(index)).read().to_pylist()
    if expected.images is not None:
        yield from _image_faults(expected.images, row["part"], {entry["key"] for entry in entries})
    for entry in entries:
        for member in ("json", "npz") if expected.labels_only else ("image", "json", "npz"):
            extension = entry["extension"] if member == "image" else member
            header = data[entry[f"{member}_offset"] - 512 : entry[f"{member}_offset"]][:100].rstrip(b"\0")
            if header.decode("ascii", "replace") != f"{entry['key']}.{extension}":
                yield f"damaged: {name}: {entry['key']}.{extension} does not lie where it says"
                return


def _image_faults(images: Layout, part: str, keys: set[str]) -> Iterator[str]:
    """Whether the dataset with the images has one for every sample of a part."""
    try:
        there = set(storage.read_table(images.index(part), ["key"])["key"].to_pylist())
    except (FileNotFoundError, ValueError) as e:
        yield f"{IMAGES}index/{part}.parquet of {images.url}: {' '.join(str(e).split())[:200]}"
        return
    if missing := keys - there:
        yield f"{IMAGES}{images.url} lacks {len(missing)} images of part {part}, e.g. {min(missing)}"


def _fault(error: Exception) -> str:
    """What is wrong with a table, in a line. Raises `error` where the file could not be read, which says nothing of it;
    Arrow has an OSError without a number for a damaged page."""
    if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
        raise error
    return " ".join(str(error).split())[:200]


class RowsOf:
    """A parquet file of a dataset, compared with rows that come block by block, without holding either."""

    def __init__(self, url: str, schema: pa.Schema):
        self._name, self._schema = url.rsplit("/", 1)[-1], schema
        self._url = url
        self._open = contextlib.ExitStack()
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest = schema.empty_table()
        self._fault = ""
        self._there = True

    def __enter__(self) -> RowsOf:
        try:
            file = self._open.enter_context(storage.open_parquet(self._url))
            self._batches = file.iter_batches()
        except FileNotFoundError:
            self._there = False  # the summary's hashes say so
        except _TABLE_ERRORS as e:
            self._fault = _fault(e)
        return self

    def expect(self, rows: pa.Table) -> None:
        """The next rows that the file has to hold."""
        if self._fault or not self._there:
            return
        if not self._take(rows.num_rows).equals(rows):
            self._differs()

    def _take(self, n: int) -> pa.Table:
        """The next n rows of the file, fewer at its end."""
        try:
            while self._rest.num_rows < n and (batch := next(self._batches, None)) is not None:
                self._rest = pa.concat_tables([self._rest, pa.Table.from_batches([batch]).cast(self._schema)])
        except _TABLE_ERRORS as e:
            self._fault = _fault(e)
            return self._schema.empty_table()
        found, self._rest = self._rest.slice(0, n), self._rest.slice(n)
        return found

    def _differs(self) -> None:
        self._fault = self._fault or "does not say what the manifest rows say"

    def faults(self) -> Iterator[str]:
        """What is wrong with the file, once every row was expected."""
        if self._there and not self._fault and self._take(1).num_rows:
            self._differs()
        if self._fault:
            between = " " if self._fault.startswith("does not") else ": "
            yield f"damaged: {self._name}{between}{self._fault}"

    def __exit__(self, *_: object) -> None:
        self._open.close()
