"""The plan: every input sample, cut into parts. A part is the unit of work, of resume and of sharding.

The input comes in units (a tar, some row groups of a parquet file, a slice of a captions file). A unit's index lists
its samples, one row group a part; parts never cross units. One part in, one shard out, named after it; the shard is a
pure function of (part, fingerprint). Two tables say what units and parts there are; `plan.json` makes the plan exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import storage
from pipeline.dataset import records
from pipeline.dataset.damage import DamagedDataset, by_its_maker
from pipeline.dataset.layout import Layout

#: Rows of a row group of the plan's tables.
ROW_GROUP = 1 << 16


class DamagedPlan(DamagedDataset):
    """A file of the plan is missing or not what plan.json says."""

    @classmethod
    def of(cls, layout: Layout, url: str, why: str = "") -> DamagedPlan:
        """The error about the file at `url`. why: it is damaged; missing without."""
        name = url.removeprefix(f"{layout.url}/")
        return cls(f"damaged: {name}: {why}" if why else f"missing: {name}", by_its_maker(layout.url))


#: Why a file is damaged.
CHANGED = "its sha256 is not the one that was planned"


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
            start, stop, step = index.indices(len(self))
            if step == 1:
                return Parts(self.table.slice(start, max(0, stop - start)))
            return Parts(self.table.take(list(range(start, stop, step))))
        return Part.of(self.table.slice(index % len(self), 1)) if len(self) else None

    def __iter__(self) -> Iterator[Part]:
        for batch in self.table.to_batches(4096):
            for row in batch.to_pylist():
                yield Part(**row)

    def take(self, rows: Any) -> Parts:
        """Some of the parts, by position (ints, rising). All of them cost no memory."""
        return self if len(rows) == len(self) else Parts(self.table.take(pa.array(rows, pa.int64())))

    def has(self, name: str) -> bool:
        """Whether there is a part of this name, where the parts are all those of a plan: by its number."""
        number = name.partition("-")[0]
        if not number.isdecimal() or int(number) >= len(self):
            return False
        return bool(self.table.column("name")[int(number)].as_py() == name)

    def units(self) -> dict[int, str]:
        """The units that the parts are of, and the sha256 of each unit's index."""
        found = self.table.select(["unit", "index_sha256"]).group_by(["unit", "index_sha256"]).aggregate([])
        return dict(
            zip(found.column("unit").to_pylist(), found.column("index_sha256").to_pylist(), strict=True)
        )

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
        return pc.sum(self.parts.table.column("n_samples")).as_py() or 0

    @staticmethod
    def write(layout: Layout, units: pa.Table, parts: pa.Table) -> Plan:
        """Writes both tables, then `plan.json` with their hashes."""
        sha256 = {}
        for name, url, table in (("units", layout.units, units), ("parts", layout.parts, parts)):
            with storage.atomic_write(url) as file:
                pq.write_table(table, file, row_group_size=ROW_GROUP)
            sha256[name] = storage.sha256(url)
        for name, url in _optional(layout):
            if storage.exists(url):
                sha256[name] = storage.sha256(url)
        storage.write_bytes(layout.plan, json.dumps(sha256, indent=1).encode())
        return Plan(layout, units, Parts(parts))

    @staticmethod
    def read(layout: Layout) -> Plan:
        """The plan written before. Raises FileNotFoundError where there is none, DamagedPlan if a file is another."""
        units, parts, *others = _files(layout)
        tables = []
        for (url, expected), schema in ((units, records.UNITS), (parts, records.PARTS)):
            tables.append(_table(layout, url, expected).cast(schema))
        _check(layout, others)
        return Plan(layout, tables[0], Parts(tables[1]))

    @staticmethod
    def check(layout: Layout) -> None:
        """Raises as `read` does, and holds nothing in memory."""
        _check(layout, _files(layout))

    @staticmethod
    def committed(layout: Layout) -> Plan:
        """The plan of a dataset that is there to be read: no plan at all is a DamagedPlan too."""
        try:
            return Plan.read(layout)
        except FileNotFoundError as e:
            raise DamagedPlan.of(layout, layout.plan) from e


def _check(layout: Layout, files: Iterable[tuple[str, str]]) -> None:
    for url, expected in files:
        try:
            found = storage.sha256(url)
        except FileNotFoundError as e:
            raise DamagedPlan.of(layout, url) from e
        if found != expected:
            raise DamagedPlan.of(layout, url, CHANGED)


def _optional(layout: Layout) -> list[tuple[str, str]]:
    """Tables that some plans were made by."""
    return [("frequent", layout.frequent), ("duplicates", layout.duplicates)]


def other_files(layout: Layout) -> list[str]:
    """The URLs of the tables that plan.json names beside units and parts."""
    return [url for url, _ in _files(layout)[2:]]


def _files(layout: Layout) -> list[tuple[str, str]]:
    """The URL and the sha256 of units, parts and every optional table that is listed, by plan.json."""
    try:
        sha256 = json.loads(storage.read_bytes(layout.plan))
        others = [(url, sha256[name]) for name, url in _optional(layout) if name in sha256]
        return [(layout.units, sha256["units"]), (layout.parts, sha256["parts"]), *others]
    except (ValueError, KeyError, TypeError) as e:
        raise DamagedPlan.of(layout, layout.plan, f"{type(e).__name__}: {str(e)[:200]}") from e


def part_rows(layout: Layout, part: Part) -> pa.Table:
    """The samples of a part, as `records.INDEX`. Raises DamagedPlan if its unit's index is missing or another."""
    data, metadata = _unit_index(layout, part.unit, part.index_sha256)
    with pq.ParquetFile(storage.arrow_file(data), metadata=metadata) as file:
        return as_index(file.read_row_group(part.row_group))


def as_index(table: pa.Table) -> pa.Table:
    """Rows of a unit's index as `records.INDEX`. Plans that were made before there were phrases have none."""
    if "phrases" not in table.column_names:
        none = pa.array([[]] * table.num_rows, records.INDEX.field("phrases").type)
        table = table.append_column(records.INDEX.field("phrases"), none)
    return table.cast(records.INDEX)


@lru_cache(maxsize=2)
def _unit_index(layout: Layout, unit: int, sha256: str) -> tuple[pa.Buffer, pq.FileMetaData]:
    """The bytes of a unit's index, and its footer, which is parsed once and not for every part. Parts come in order, so two
    units are enough; the hash tells another file."""
    data = pa.py_buffer(unit_index_bytes(layout, unit, sha256))
    return data, pq.read_metadata(storage.arrow_file(data))


def unit_index_bytes(layout: Layout, unit: int, sha256: str) -> bytes:
    """The index of a unit, as a file. Raises DamagedPlan if it is missing or another."""
    return _checked(layout, layout.unit_index(unit), sha256)


def _table(layout: Layout, url: str, sha256: str) -> pa.Table:
    return pq.ParquetFile(storage.arrow_file(_checked(layout, url, sha256))).read()


def _checked(layout: Layout, url: str, sha256: str) -> bytes:
    try:
        data = storage.read_bytes(url)
    except FileNotFoundError as e:
        raise DamagedPlan.of(layout, url) from e
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedPlan.of(layout, url, CHANGED)
    return data
