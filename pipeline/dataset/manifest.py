"""Manifest rows: what makes a part's shard exist. One small file a part while a build runs, one table once it is done."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

import storage
from pipeline.dataset import records
from pipeline.dataset.damage import DamagedDataset, by_its_maker, by_repair, reading
from pipeline.dataset.layout import Layout

#: Rows asked for at once.
THREADS = 16
#: Row files that are asked which dataset they are of.
ASKED = 100


@dataclass(frozen=True)
class ShardRow:
    """One committed shard of a dataset.

    name: its file; part: that it was made of; url: where it lies; sha256, n_bytes: of the file; n_samples: in it;
    index_url, index_sha256: of the file that says where its members lie. images: the shard of another dataset that has
    the images of its samples, where it holds labels alone. made_with: the fingerprint that its samples carry; "" where
    that is not known.
    """

    name: str
    part: str
    url: str
    sha256: str
    n_bytes: int
    n_samples: int
    index_url: str
    index_sha256: str
    images: ShardRow | None = None
    made_with: str = ""

    def damaged(self, what: str) -> DamagedDataset:
        """The error about one of its files, with what mends it."""
        return DamagedDataset(what, self.advice)

    @property
    def advice(self) -> str:
        """What mends its files."""
        return by_repair(self.url.rpartition("/shards/")[0])

    def places(self, columns: list[str] | None = None) -> pa.Table:
        """The table that says where its members lie (`records.INDEX`). Raises DamagedDataset."""
        with reading(self.index_url, self.advice):
            return storage.read_table(self.index_url, columns)

    def read(self, url: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes of its file or of its index, unchecked. Raises DamagedDataset where they are not there."""
        with reading(url, self.advice):
            try:
                return storage.read_bytes(url, start, end)
            except storage.ShortRead as e:
                raise self.damaged(f"{self.name} is damaged: {e}") from e


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
    if not isinstance(row, dict) or row.get("part") != part or not isinstance(row.get("seconds"), dict):
        return False
    if not all(name in row and is_kind(row[name]) for name, is_kind in _MANIFEST_KINDS):
        return False
    if row["shard"] not in ("", f"{part}.tar") or bool(row["shard"]) != bool(row["n_samples"]):
        return False
    rejects = row.get("rejects")
    return isinstance(rejects, list) and all(
        isinstance(reject, dict)
        and all(name in reject and is_kind(reject[name]) for name, is_kind in _REJECT_KINDS)
        for reject in rejects
    )


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_int(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _is_ids(value: Any) -> bool:
    return type(value) is list and all(type(v) is int and 0 <= v < 1 << 31 for v in value)


def _is_counts(value: Any) -> bool:
    return type(value) is list and all(map(_is_int, value))


def _kinds(schema: pa.Schema) -> tuple[tuple[str, Callable[[Any], bool]], ...]:
    """Field -> what its values must be: plain functions, since a large dataset asks for them a billion times."""
    kinds = {
        pa.string(): _is_text,
        pa.int64(): _is_int,
        pa.float64(): _is_number,
        pa.list_(pa.int32()): _is_ids,
        pa.list_(pa.int64()): _is_counts,
    }
    return tuple((field.name, kinds[field.type]) for field in schema)


_MANIFEST_KINDS, _REJECT_KINDS = _kinds(records.MANIFEST), _kinds(records.REJECTS)


def read_rows(layout: Layout, parts: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """`read_row` of every part, in order; of a remote dataset, some at once."""
    read = partial(read_row, layout)
    return map(read, parts) if storage.is_local(layout.url) else storage.map_threads(read, parts, THREADS)


def committed(layout: Layout) -> list[str]:
    """The parts that have a row file, sorted, by listing; a row that is not whole is among them."""
    names = storage.listing(layout.file("manifest"))
    return sorted(
        n.removesuffix(".json") for n in names if n.endswith(".json") and not n.startswith(storage.TEMPORARY)
    )


def made_with(layout: Layout) -> Iterator[dict[str, Any]]:
    """Some committed rows: those of up to `ASKED` row files, then the first one of a finished dataset's table. Whoever
    stops at the first one has paid for one; rows that are not whole are left out."""
    yield from _of_files(layout)
    with contextlib.suppress(DamagedDataset):
        table = read_table(layout)
        yield from table.slice(0, 1).to_pylist() if table is not None else ()


def _of_files(layout: Layout) -> Iterator[dict[str, Any]]:
    files = (name for name in storage.names(layout.file("manifest")) if name.endswith(".json"))
    for name in itertools.islice(files, ASKED):
        if row := read_row(layout, name.removesuffix(".json")):
            yield row


def fingerprint_of_table(layout: Layout) -> str | None:
    """That of the table of a finished dataset; None where there is none that can be read."""
    with contextlib.suppress(DamagedDataset):
        table = read_table(layout)
        return table["fingerprint"][0].as_py() if table is not None and len(table) else None
    return None


def says(layout: Layout, fingerprint: str) -> bool | None:
    """Whether one of some rows was made with this fingerprint; None where nothing is committed."""
    found = None
    for row in made_with(layout):
        if row["fingerprint"] == fingerprint:
            return True
        found = False
    return found


def are_of(layout: Layout, fingerprint: str) -> bool:
    """Whether a folder's parts were made with this fingerprint: most of some row files say so, or the table of a finished
    dataset does. A row that strayed in says nothing."""
    said = [row["fingerprint"] == fingerprint for row in _of_files(layout)]
    return 2 * sum(said) > len(said) or fingerprint_of_table(layout) == fingerprint


def read_table(layout: Layout) -> pa.Table | None:
    """`manifest.parquet`, as `records.MANIFEST`; None where the build has not finished. Raises DamagedDataset."""
    with reading(layout.manifest, by_its_maker(layout.url)):
        try:
            return storage.read_table(layout.manifest).cast(records.MANIFEST)
        except FileNotFoundError:
            return None


def rows_of(layout: Layout) -> pa.Table:
    """All rows there are, as `records.MANIFEST`: of the table, or of the row files while a build has not finished."""
    table = read_table(layout)
    if table is not None:
        return table
    rows = [row for row in read_rows(layout, committed(layout)) if row is not None]
    return pa.Table.from_pylist([{n: r[n] for n in records.MANIFEST.names} for r in rows], records.MANIFEST)
