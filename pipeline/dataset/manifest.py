"""Manifest rows: what makes a part's shard exist. One small file a part while a build runs, one table once it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import storage
from pipeline.dataset import records
from pipeline.dataset.layout import Layout

#: Rows asked for at once.
THREADS = 16
_NAMES = frozenset(records.MANIFEST.names)


@dataclass(frozen=True)
class ShardRow:
    """One committed shard of a dataset.

    name: its file; part: that it was made of; url: where it lies; sha256, n_bytes: of the file; n_samples: in it;
    index_url, index_sha256: of the file that says where its members lie.
    """

    name: str
    part: str
    url: str
    sha256: str
    n_bytes: int
    n_samples: int
    index_url: str
    index_sha256: str


def write_row(layout: Layout, row: dict[str, Any]) -> None:
    """Commits a part."""
    storage.write_bytes(layout.row(row["part"]), json.dumps(row, ensure_ascii=False).encode())


def read_row(layout: Layout, part: str) -> dict[str, Any] | None:
    """The row of a part; None where there is none, or one that is not whole."""
    try:
        row = json.loads(storage.read_bytes(layout.row(part)))
    except (FileNotFoundError, ValueError):
        return None
    return row if _is_row(row, part) else None


def _is_row(row: Any, part: str) -> bool:
    """Whether a document has all fields of a row in their types, and names its own part's shard and no other file."""
    if not isinstance(row, dict) or not set(row) >= _NAMES or row["part"] != part:
        return False
    if row["shard"] not in ("", f"{part}.tar") or bool(row["shard"]) != bool(row["n_samples"]):
        return False
    try:
        pa.Table.from_pylist([{name: row[name] for name in records.MANIFEST.names}], records.MANIFEST)
        pa.Table.from_pylist(row["rejects"], records.REJECTS)
    except (pa.ArrowException, KeyError, TypeError):
        return False
    return isinstance(row.get("seconds"), dict)


def read_rows(layout: Layout, parts: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """`read_row` of every part, in order, some at once."""
    return storage.map_threads(lambda part: read_row(layout, part), parts, THREADS)


def committed(layout: Layout) -> list[str]:
    """The parts that have a row file, sorted, by listing; a row that is not whole is among them."""
    names = storage.listing(layout.file("manifest"))
    return sorted(
        n.removesuffix(".json") for n in names if n.endswith(".json") and not n.startswith(storage.TEMPORARY)
    )


def read_table(layout: Layout) -> pa.Table | None:
    """`manifest.parquet`, as `records.MANIFEST`; None where the build has not finished. ValueError for a damaged one."""
    try:
        return storage.read_table(layout.manifest).cast(records.MANIFEST)
    except FileNotFoundError:
        return None
    except pa.ArrowException as e:
        raise ValueError(f"{layout.manifest} is damaged: {' '.join(str(e).split())[:200]}") from e


def rows_of(layout: Layout) -> pa.Table:
    """All rows there are, as `records.MANIFEST`: of the table, or of the row files while a build has not finished."""
    table = read_table(layout)
    if table is not None:
        return table
    rows = [row for row in read_rows(layout, committed(layout)) if row is not None]
    return pa.Table.from_pylist([{n: r[n] for n in records.MANIFEST.names} for r in rows], records.MANIFEST)
