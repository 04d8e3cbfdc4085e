"""What the driver keeps of the units that were indexed, and the plan's two tables made of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from pipeline.dataset import records
from pipeline.dataset.plan import ROW_GROUP
from pipeline.dataset.units import UnitRecord
from pipeline.sources import Unit

#: What a driver keeps of a part until the plan is written.
PART = np.dtype([("content", "S12"), ("n_rows", "i8"), ("n_samples", "i8")])


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a driver keeps of a unit's record: numbers, not objects. parts: [P] of `PART`."""

    unit: int
    n_rows: int
    n_samples: int
    index_sha256: str
    parts: np.ndarray

    @staticmethod
    def of(record: UnitRecord) -> Indexed:
        parts = np.array([tuple(part) for part in record.parts], PART)
        return Indexed(record.unit, record.n_rows, record.n_samples, record.index_sha256, parts)


def units_table(units: list[Unit], found: list[Indexed]) -> pa.Table:
    """`records.UNITS`, in columns: there may be a million units."""
    known = {f.name for f in fields(Unit)}
    return pa.Table.from_arrays(
        [
            pa.array((getattr(units[r.unit] if f.name in known else r, f.name) for r in found), f.type)
            for f in records.UNITS
        ],
        schema=records.UNITS,
    )


def parts_table(found: list[Indexed]) -> pa.Table:
    """`records.PARTS`; Python objects of a few thousand parts at a time."""
    ends = np.cumsum([len(record.parts) for record in found])
    tables, start = [], 0
    for stop, end in enumerate(ends.tolist(), start=1):
        if stop == len(found) or end // ROW_GROUP > (ends[start - 1] if start else 0) // ROW_GROUP:
            tables.append(_parts_of(found[start:stop], end))
            start = stop
    return pa.concat_tables(tables)


def _parts_of(found: list[Indexed], end: int) -> pa.Table:
    """The parts of some neighbouring units; `end`: the number of the part after the last one."""
    parts = np.concatenate([record.parts for record in found])
    sizes = [len(record.parts) for record in found]
    of_unit = np.repeat(np.arange(len(found)), sizes)
    names = [
        f"{number:06d}-{content.decode()}"
        for number, content in enumerate(parts["content"].tolist(), end - len(parts))
    ]
    hashes = pa.array([record.index_sha256 for record in found])
    columns = [
        pa.array(names),
        np.array([record.unit for record in found], np.int32)[of_unit],
        np.concatenate([np.arange(n, dtype=np.int32) for n in sizes]),
        hashes.take(pa.array(of_unit)),
        np.ascontiguousarray(parts["n_rows"]),
        np.ascontiguousarray(parts["n_samples"]),
    ]
    return pa.Table.from_arrays([pa.array(c) for c in columns], schema=records.PARTS)
