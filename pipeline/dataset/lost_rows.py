"""Manifest rows that are lost, or another dataset's, written anew from the tables of a finished dataset."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import storage
from pipeline.dataset import blocks, manifest, records
from pipeline.dataset.layout import Layout
from pipeline.dataset.plan import Parts


def restore_rows(layout: Layout, parts: Parts, identity: dict[str, str] | None) -> int:
    """Writes every row that is not there, not whole, or of another fingerprint than `identity`, where both tables are
    those of the summary and of this fingerprint; returns how many. How long a part took is lost. Whether the rows and
    their shards belong together is for whoever looks at the shards.
    """
    if identity is None:
        return 0
    lost = [
        name
        for block in blocks.of(parts)
        for name, row in zip(block.names, manifest.read_rows(layout, block.names), strict=True)
        if row is None or any(row[k] != v for k, v in identity.items())
    ]
    tables = _tables(layout) if lost else None
    if tables is None:
        return 0
    rows, rejects = (table.filter(pc.is_in(table["part"], pa.array(lost, pa.string()))) for table in tables)
    by_part: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for reject in rejects.to_pylist():
        by_part[reject["part"]].append(reject)
    own = [row for row in rows.to_pylist() if all(row[k] == v for k, v in identity.items())]
    for row in own:
        manifest.write_row(layout, {**row, "rejects": by_part[row["part"]], "seconds": {}})
    return len(own)


def _tables(layout: Layout) -> tuple[pa.Table, pa.Table] | None:
    """Manifest and rejects; None where either is not what the summary says."""
    try:
        sha256 = json.loads(storage.read_bytes(layout.summary))["sha256"]
        found = []
        for name, url, schema in (
            ("manifest.parquet", layout.manifest, records.MANIFEST),
            ("rejects.parquet", layout.rejects, records.REJECTS),
        ):
            if storage.sha256(url) != sha256[name]:
                return None
            found.append(storage.read_table(url).cast(schema))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found[0], found[1]
