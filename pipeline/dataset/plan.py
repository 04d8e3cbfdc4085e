"""The plan: every input sample, cut into parts. A part is the unit of work, of resume and of sharding.

One part in, one shard out, named after it; the shard is a pure function of (part, fingerprint). The plan is one parquet
file with one row group a part, written before any work starts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import records
from pipeline.sources import Source


@dataclass(frozen=True)
class Part:
    """ordinal: position in the plan; name: `<ordinal>-<hash of what identifies its samples>`; n_samples: its rows."""

    ordinal: int
    name: str
    n_samples: int

    @property
    def shard(self) -> str:
        return f"{self.name}.tar"


@dataclass(frozen=True)
class Plan:
    """The parts of a dataset at `out`, in order, and the sha256 of `plan.parquet`."""

    out: str
    parts: tuple[Part, ...]
    sha256: str

    @property
    def n_samples(self) -> int:
        return sum(p.n_samples for p in self.parts)

    @staticmethod
    def write(source: Source, samples_per_shard: int, limit: int, out: str) -> Plan:
        """Indexes the source and writes `plan/plan.parquet`, then `plan/plan.json` (which makes it exist)."""
        parts: list[Part] = []
        rows = _marked_duplicates(
            itertools.islice((row for unit in source.units() for row in source.index(unit)), limit or None)
        )
        with (
            storage.atomic_write(storage.join(out, "plan", "plan.parquet")) as f,
            pq.ParquetWriter(f, records.INDEX) as writer,
        ):
            while chunk := list(itertools.islice(rows, samples_per_shard)):
                writer.write_table(
                    pa.Table.from_pylist(chunk, records.INDEX), row_group_size=samples_per_shard
                )
                parts.append(Part(len(parts), f"{len(parts):06d}-{_content_hash(chunk)}", len(chunk)))
        if not parts:
            raise ValueError("source: it holds no samples")
        sha256 = storage.sha256(storage.join(out, "plan", "plan.parquet"))
        document = {"sha256": sha256, "parts": [[p.name, p.n_samples] for p in parts]}
        storage.write_bytes(storage.join(out, "plan", "plan.json"), json.dumps(document).encode())
        return Plan(out, tuple(parts), sha256)

    @staticmethod
    def read(out: str) -> Plan:
        """The plan written before. Raises FileNotFoundError."""
        document = json.loads(storage.read_bytes(storage.join(out, "plan", "plan.json")))
        parts = tuple(Part(i, name, n) for i, (name, n) in enumerate(document["parts"]))
        return Plan(out, parts, document["sha256"])

    def rows(self, part: Part) -> pa.Table:
        """The samples of a part, as `records.INDEX`."""
        with (
            storage.open_read(storage.join(self.out, "plan", "plan.parquet")) as f,
            pq.ParquetFile(f) as file,
        ):
            return file.read_row_group(part.ordinal).cast(records.INDEX)


def _marked_duplicates(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Marks every row whose source key was seen before; the first one is the sample."""
    seen: set[bytes] = set()
    for row in rows:
        digest = hashlib.blake2b(row["source_key"].encode(), digest_size=12).digest()
        if digest in seen and not row["problem"]:
            row["problem"] = "duplicate_key"
        seen.add(digest)
        yield row


def _content_hash(rows: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for r in rows:
        identity = [
            r["source_key"],
            r["location"],
            r["offset"],
            r["n_bytes"],
            r["row"],
            r["captions"],
            r["problem"],
        ]
        digest.update(json.dumps(identity, ensure_ascii=False).encode())
    return digest.hexdigest()[:12]
