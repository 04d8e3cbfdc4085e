"""The plan: every input sample, cut into parts. A part is the unit of work, of resume and of sharding.

The input comes in units (a tar, some row groups of a parquet file, a slice of a captions file). A unit's index lists
its samples, one row group a part; parts never cross units. One part in, one shard out, named after it; the shard is a
pure function of (part, fingerprint). Two tables say what units and parts there are; `plan.json` makes the plan exist.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import records
from pipeline.dataset.layout import Layout


class DamagedPlan(ValueError):
    """A file of the plan is missing or not what plan.json says."""


@dataclass(frozen=True)
class Part:
    """name: `<ordinal>-<hash of what identifies its samples>`; unit, row_group: where its rows are, in a file with this
    sha256; n_rows of them stand for n_samples input samples."""

    name: str
    unit: int
    row_group: int
    index_sha256: str
    n_rows: int
    n_samples: int

    def as_table(self) -> pa.Table:
        """One row of `records.PARTS`."""
        return pa.Table.from_pylist([vars(self)], records.PARTS)

    @staticmethod
    def of(table: pa.Table) -> Part:
        """The part of a table of one row."""
        return Part(**table.to_pylist()[0])


class Parts(Sequence[Part]):
    """Parts in columns, about a hundred bytes each; objects are made when they are asked for."""

    def __init__(self, table: pa.Table):
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Parts(self.table.take(list(range(*index.indices(len(self))))))
        return Part.of(self.table.slice(index % len(self), 1)) if len(self) else None

    def __iter__(self) -> Iterator[Part]:
        for batch in self.table.to_batches(4096):
            for row in batch.to_pylist():
                yield Part(**row)

    def take(self, rows: Sequence[int]) -> Parts:
        """Some of the parts, by position."""
        return Parts(self.table.take(pa.array(rows, pa.int64())))

    @property
    def names(self) -> list[str]:
        return self.table.column("name").to_pylist()


@dataclass(frozen=True)
class Plan:
    """The plan of the dataset with this layout. units: `records.UNITS`; parts: in order."""

    layout: Layout
    units: pa.Table
    parts: Parts

    @property
    def n_samples(self) -> int:
        return sum(self.parts.table.column("n_samples").to_pylist())

    @staticmethod
    def write(layout: Layout, units: pa.Table, parts: pa.Table) -> Plan:
        """Writes both tables, then `plan.json` with their hashes."""
        sha256 = {}
        for name, url, table in (("units", layout.units, units), ("parts", layout.parts, parts)):
            sink = io.BytesIO()
            pq.write_table(table, sink)
            storage.write_bytes(url, sink.getvalue())
            sha256[name] = storage.sha256(url)
        storage.write_bytes(layout.plan, json.dumps(sha256, indent=1).encode())
        return Plan(layout, units, Parts(parts))

    @staticmethod
    def read(layout: Layout) -> Plan:
        """The plan written before. Raises FileNotFoundError where there is none, DamagedPlan if a file is another."""
        try:
            sha256 = json.loads(storage.read_bytes(layout.plan))
            wanted = [(layout.units, sha256["units"]), (layout.parts, sha256["parts"])]
        except (ValueError, KeyError, TypeError) as e:
            raise DamagedPlan(f"damaged: plan/plan.json: {e!r}") from e
        tables = []
        for (url, expected), schema in zip(wanted, (records.UNITS, records.PARTS), strict=True):
            tables.append(_table(url, expected).cast(schema))
        return Plan(layout, tables[0], Parts(tables[1]))


def part_rows(layout: Layout, part: Part) -> pa.Table:
    """The samples of a part, as `records.INDEX`. Raises DamagedPlan if its unit's index is missing or another."""
    data = _unit_index(layout.unit_index(part.unit), part.index_sha256)
    with pq.ParquetFile(io.BytesIO(data)) as file:
        return file.read_row_group(part.row_group).cast(records.INDEX)


@lru_cache(maxsize=2)
def _unit_index(url: str, sha256: str) -> bytes:
    """The bytes of a unit's index. Parts come in order, so two units are enough; the hash tells another file."""
    return _checked(url, sha256)


def _table(url: str, sha256: str) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(_checked(url, sha256))).read()


def _checked(url: str, sha256: str) -> bytes:
    name = "/".join(url.rsplit("/", 2)[-2:])
    try:
        data = storage.read_bytes(url)
    except FileNotFoundError as e:
        raise DamagedPlan(f"missing: {name}") from e
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedPlan(f"damaged: {name}: its sha256 is not the one that was planned")
    return data
