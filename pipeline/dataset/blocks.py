"""The manifest in blocks of neighbouring parts: what one task looks at, so that the driver holds a few bytes a part.

Every function here is work for a runner's `map`: it takes a `Block`, reads what lies in the dataset for those parts, and
returns a value. A block's parts have consecutive numbers, hence names that begin alike: an object store lists them in
one request.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

import storage
from pipeline.dataset import manifest, records
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts

#: Parts in a block: as many as an object store lists in one request.
SIZE = 1000
TOTALS = ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs", "n_bytes")


@dataclass(frozen=True)
class Block:
    """Parts `start`, `start + 1`, ... of the plan: their names and how many input samples each stands for."""

    start: int
    names: list[str]
    n_samples: list[int]


def of(parts: Parts) -> Iterator[Block]:
    """The plan's parts as blocks, in order."""
    for start in range(0, len(parts), SIZE):
        table = parts.table.slice(start, SIZE)
        yield Block(start, table.column("name").to_pylist(), table.column("n_samples").to_pylist())


def with_row(layout: Layout, block: Block) -> tuple[int, list[bool]]:
    """The block's start, and which of its parts have a row file (whole or not)."""
    there = storage.sizes(layout.file("manifest"), [f"{name}.json" for name in block.names])
    return block.start, [f"{name}.json" in there for name in block.names]


@dataclass(frozen=True)
class Checked:
    """What stands of a block: which parts need not be built again; why others with a row do (name, reason); a part of
    another fingerprint (name, reason), or None."""

    start: int
    good: list[bool]
    damaged: list[tuple[str, str]]
    refused: tuple[str, str] | None = None


def check(layout: Layout, fingerprint: str, recheck: str, block: Block) -> Checked:
    """Looks at the rows of a block and at the files that they name. recheck: bytes | size."""
    rows = _rows(layout, block.names)
    found = [name for name, row in rows.items() if row and row["shard"]]
    shards = storage.sizes(layout.file("shards"), [f"{name}.tar" for name in found]) if found else {}
    indices = storage.sizes(layout.file("index"), [f"{name}.parquet" for name in found]) if found else {}

    def reason(name: str) -> str | None:
        """Why a part has to be built anew; "" if it is whole, None if it was never built."""
        if name not in rows:
            return None
        row = rows[name]
        if row is None:
            return "its manifest row is not whole"
        if not row["shard"]:
            return ""
        why = _file_fault(row, shards, indices)
        return why or (changed(layout, row) if recheck == "bytes" else "")

    for name, row in rows.items():
        if row and row["fingerprint"] != fingerprint:
            return Checked(
                block.start, [], [], (name, f"fingerprint was {row['fingerprint']}, is {fingerprint}")
            )
    many = recheck == "bytes" and not storage.is_local(layout.url)
    reasons = list(storage.map_threads(reason, block.names) if many else map(reason, block.names))
    damaged = [(name, why) for name, why in zip(block.names, reasons, strict=True) if why]
    return Checked(block.start, [why == "" for why in reasons], damaged)


def _rows(layout: Layout, names: list[str]) -> dict[str, dict[str, Any] | None]:
    """The rows of those parts that have a row file, by part; None for a row that is not whole."""
    there = storage.sizes(layout.file("manifest"), [f"{name}.json" for name in names])
    found = [name for name in names if f"{name}.json" in there]
    return dict(zip(found, manifest.read_rows(layout, found), strict=True))


def _file_fault(row: dict[str, Any], shards: dict[str, int], indices: dict[str, int]) -> str:
    size = shards.get(row["shard"])
    if size is None:
        return "missing"
    if size != row["n_bytes"]:
        return f"{size} bytes instead of {row['n_bytes']}"
    return "" if f"{row['part']}.parquet" in indices else "its index is missing"


def changed(layout: Layout, row: dict[str, Any]) -> str:
    """Whether the bytes of a row's shard or index are others than were committed, in words, or ""."""
    for url, key, text in (
        (layout.shard(row["part"]), "sha256", "its bytes have changed"),
        (layout.index(row["part"]), "index_sha256", "its index has changed"),
    ):
        try:
            if hashlib.sha256(storage.read_bytes(url)).hexdigest() != row[key]:
                return text
        except FileNotFoundError:
            return "missing"
    return ""


@dataclass(frozen=True)
class Sums:
    """A block's rows together. fault: the first reason why the dataset is not complete, or "". tables: the block's rows of
    `manifest.parquet` and of `rejects.parquet`."""

    fault: str
    n_shards: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    manifest: pa.Table = field(default_factory=records.MANIFEST.empty_table)
    rejects: pa.Table = field(default_factory=records.REJECTS.empty_table)


def add_up(layout: Layout, identity: dict[str, str], block: Block) -> Sums:
    """Compares the rows of a block with the plan and with the files there are, and adds them up."""
    rows: list[dict[str, Any]] = []
    for name, n_samples, row in zip(
        block.names, block.n_samples, manifest.read_rows(layout, block.names), strict=True
    ):
        if fault := _row_fault(name, n_samples, row, identity):
            return Sums(fault)
        assert row is not None
        rows.append(row)
    shards = [row["shard"] for row in rows if row["shard"]]
    sizes = storage.sizes(layout.file("shards"), shards) if shards else {}
    indices = (
        storage.sizes(layout.file("index"), [f"{s.removesuffix('.tar')}.parquet" for s in shards])
        if shards
        else {}
    )
    for row in rows:
        if row["shard"] and _file_fault(row, sizes, indices):
            return Sums(f"shard {row['shard']} or its index was lost meanwhile; the same command goes on")
    totals: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for row in rows:
        totals.update({name: row[name] for name in TOTALS})
        seconds.update(row["seconds"])
    rejects = [reject for row in rows for reject in row["rejects"]]
    return Sums(
        "", len(shards), totals, seconds, by_reason(rejects), rows_table(rows), rejects_table(rejects)
    )


def _row_fault(name: str, n_samples: int, row: dict[str, Any] | None, identity: dict[str, str]) -> str:
    if row is None:
        return f"part {name} has no manifest row; the same command goes on"
    if row["n_read"] != n_samples or row["n_read"] != row["n_samples"] + row["n_rejected"]:
        return f"part {name}: {n_samples} planned, its row does not add up to that"
    if row["fingerprint"] != identity["fingerprint"] or row["pool"] != identity["pool"]:
        return f"part {name} was committed by another build meanwhile; run the command again"
    return ""


def by_reason(rejects: Iterable[dict[str, Any]]) -> Counter[str]:
    """Reason -> samples that it cost."""
    counts: Counter[str] = Counter()
    for reject in rejects:
        counts[reject["reason"]] += reject["n_samples"]
    return counts


def rows_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Manifest rows as `records.MANIFEST`."""
    columns = {name: [row[name] for row in rows] for name in records.MANIFEST.names}
    return pa.Table.from_pydict(columns, records.MANIFEST)


def rejects_table(rejects: list[dict[str, Any]]) -> pa.Table:
    """Reject rows as `records.REJECTS`."""
    columns = {name: [row[name] for row in rejects] for name in records.REJECTS.names}
    return pa.Table.from_pydict(columns, records.REJECTS)
