"""The hashes of a unit's images: the one task of the search that reads images. What it leaves is found again on resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline import sources
from pipeline.block_list import BlockList
from pipeline.dataset import records
from pipeline.dataset.layout import Layout
from pipeline.duplicates import held_out
from pipeline.duplicates.hashes import of_image
from pipeline.duplicates.settings import REASONS
from pipeline.filters import check_bytes, check_size
from pipeline.images import BadSample, size_of
from pipeline.settings import BuildSettings

#: Images between two writes.
BLOCK = 1000
_EMPTY = {"captions": [], "held_out": "", "distance": 0}


def hash_unit(settings: BuildSettings, layout: Layout, unit: int) -> int:
    """Writes the hashes of a unit's usable images, unless they are there; returns how many."""
    url = layout.unit_hashes(unit)
    try:
        with storage.open_parquet(url) as file:
            return int(file.metadata.num_rows)
    except FileNotFoundError:
        pass
    except (ValueError, pa.ArrowException):
        storage.remove(url)
    n = 0
    with storage.atomic_write(url) as target, pq.ParquetWriter(target, records.HASHES) as writer:
        block: list[dict[str, Any]] = []
        for row in _hashed(settings, layout, unit):
            block.append(row)
            n += 1
            if len(block) == BLOCK:
                writer.write_table(pa.Table.from_pylist(block, records.HASHES))
                block = []
        writer.write_table(pa.Table.from_pylist(block, records.HASHES))
    return n


def _hashed(settings: BuildSettings, layout: Layout, unit: int) -> Iterator[dict[str, Any]]:
    """Rows of `records.HASHES`. A sample that the build will reject has none: it must not stand for another one."""
    wanted = settings.duplicates
    pixels, near = wanted.needs("pixels"), wanted.needs("near")
    listed = held_out.of_setting(wanted.held_out)
    source = sources.load(settings.source)
    blocked = BlockList.of_setting(settings.source.block_list)
    for number, row in enumerate(_rows(layout, unit)):
        if row["problem"] and row["problem"].partition(":")[0] not in REASONS:
            continue
        try:
            image = source.read(row)
            blocked.check_image(records.sample_key(row["source_key"], image), image)
            check_bytes(len(image), settings.filters)
            hashes = of_image(image, pixels, near, settings.source.max_pixels)
            if settings.filters.looks_at_size:
                check_size(*size_of(image), settings.filters)
        except BadSample:
            continue
        found = listed.find(hashes, wanted.held_out_by, wanted.distance, wanted.mirrored)
        yield {
            **_EMPTY,
            "row": number,
            "source_key": row["source_key"],
            **dict(zip(("sha256", "pixels", "near", "mirror"), hashes, strict=True)),
            **(dict(zip(("held_out", "distance"), found, strict=True)) if found else {}),
            **({"captions": row["captions"]} if wanted.pairs != "none" else {}),
        }


def _rows(layout: Layout, unit: int) -> Iterator[dict[str, Any]]:
    with storage.open_parquet(layout.unit_index(unit)) as file:
        for batch in file.iter_batches(BLOCK):
            yield from batch.to_pylist()
