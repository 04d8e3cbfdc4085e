"""The records of indexed units, `plan/units/<unit>.json`: what a build that goes on trusts of its first pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import storage
from pipeline.dataset.layout import Layout


@dataclass(frozen=True)
class UnitRecord:
    """What indexing a unit left. parts: [content hash, rows, samples] of each."""

    unit: int
    n_rows: int
    n_samples: int
    index_sha256: str
    counts_sha256: str
    parts: list[list[Any]]

    @staticmethod
    def read(layout: Layout, unit: int) -> UnitRecord | None:
        """The record of a unit; None where it has none that is whole and its own."""
        try:
            record = UnitRecord(**json.loads(storage.read_bytes(layout.unit_record(unit))))
        except (FileNotFoundError, ValueError, TypeError, RecursionError):
            return None
        return record if record.unit == unit and record._adds_up() else None

    def _adds_up(self) -> bool:
        texts, parts = (self.index_sha256, self.counts_sha256), self.parts
        if not all(type(text) is str for text in texts) or type(parts) is not list:
            return False
        if not all(type(part) is list and [*map(type, part)] == [str, int, int] for part in parts):
            return False
        sums = [sum(part[1] for part in parts), sum(part[2] for part in parts)]
        return [self.n_rows, self.n_samples] == sums

    def is_whole(self, layout: Layout) -> bool:
        """Whether the unit's index and counts are those of this record."""
        return self._is(layout.unit_index(self.unit), self.index_sha256) and self.has_counts(layout)

    def has_counts(self, layout: Layout) -> bool:
        """Whether the unit's counts are those of this record."""
        return self._is(layout.unit_counts(self.unit), self.counts_sha256)

    @staticmethod
    def _is(url: str, expected: str) -> bool:
        try:
            return storage.sha256(url) == expected
        except FileNotFoundError:
            return False


def index_fault(layout: Layout, work: tuple[int, str]) -> str:
    """What is wrong with the index of a planned unit, or "". work: the unit and the sha256 of its index, as planned."""
    unit, expected = work
    name = f"plan/index/{unit:06d}.parquet"
    try:
        found = storage.sha256(layout.unit_index(unit))
    except FileNotFoundError:
        return f"missing: {name}"
    return f"damaged: {name}: its sha256 is not the one that was planned" if found != expected else ""


def counts_fault(layout: Layout, work: tuple[int, str]) -> str:
    """What is wrong with the counts of a planned unit, of which a pool is made, or "". work: the unit and the sha256 of its
    index, as planned."""
    unit, index_sha256 = work
    record = UnitRecord.read(layout, unit)
    if record is None or record.index_sha256 != index_sha256:
        return f"damaged: plan/units/{unit:06d}.json: missing, or not the record of the unit that was planned"
    if not record.has_counts(layout):
        return f"damaged: plan/counts/{unit:06d}.parquet: missing, or its sha256 is not the one in its record"
    return ""
