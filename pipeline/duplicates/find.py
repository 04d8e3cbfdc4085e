"""Who is whose duplicate, over all units: searches by hash partition, then `duplicates.parquet`.

The driver holds numbers and keys of those that are duplicates, about 200 bytes each, and nothing of the others. The pairs
of near hashes, 17 bytes each, are resolved there too: who goes depends on who went before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline import partition
from pipeline.dataset import records
from pipeline.dataset.layout import Layout
from pipeline.duplicates import compare, near
from pipeline.duplicates.compare import CAPTIONS, Group
from pipeline.duplicates.hash_unit import hash_unit
from pipeline.duplicates.hashes import library
from pipeline.duplicates.near import EDGES
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.partition import Map, Search
from pipeline.settings import BuildSettings
from pipeline.standing import Standing, tell

log = logging.getLogger("regionpairs")

#: Hashes that one task holds in memory, with some 100 bytes each.
HASHES_A_TASK = 4_000_000
#: Rows of a row group of the table.
ROW_GROUP = 1 << 14
#: The column of `records.HASHES` that a level compares.
_COLUMNS = {"bytes": "sha256", "pixels": "pixels"}


def check(settings: DuplicateSettings) -> None:
    """Raises where what is asked for cannot be had here: a library or a list is missing."""
    if settings.needs("near"):
        library()
    if settings.held_out:
        from pipeline.duplicates.held_out import of_setting

        of_setting(settings.held_out)


def find(
    settings: BuildSettings, layout: Layout, n_rows: Sequence[int], index_sha256: Sequence[str], run: Map
) -> int:
    """Writes `duplicates.parquet`, unless it is there; returns its rows. n_rows, index_sha256: of each unit's index."""
    if storage.exists(layout.duplicates):
        with storage.open_parquet(layout.duplicates) as file:
            return int(file.metadata.num_rows)
    wanted = settings.duplicates
    n_images = _hash(settings, layout, len(n_rows), run)
    tell(Standing("duplicates"))
    starts = np.concatenate([[0], np.cumsum(n_rows)]).astype(np.int64)
    edges = _concatenated(run(partial(compare.held_out_of, layout, starts), range(len(n_rows))), EDGES)
    search = _Search(layout, n_images, starts, index_sha256, run)
    if wanted.images == "near":
        images = _near(search, wanted)
    elif wanted.images != "none":
        found = search.units(compare.equal_images(layout, _COLUMNS[wanted.images]))
        images = partition.read(found, 0, EDGES)
    else:
        images = np.zeros(0, EDGES)
    edges = np.concatenate([edges, images])
    edges = edges[np.argsort(edges["later"], kind="stable")]
    captions = np.zeros(0, CAPTIONS)
    if wanted.pairs != "none":
        found = search.units(compare.equal_pairs(layout, _COLUMNS[wanted.pairs]), edges["later"])
        captions = partition.read(found, 0, CAPTIONS)
    _write(layout, starts, edges, captions, run, wanted.images == "near")
    n = len(edges) + len(captions)
    log.info("duplicates: %d of %d images, %d captions", len(edges), sum(n_images), len(captions))
    return n


@dataclass(frozen=True)
class _Search:
    """What every search here begins with. n_images: of each unit. starts: the position of each unit's first row."""

    layout: Layout
    n_images: Sequence[int]
    starts: np.ndarray
    index_sha256: Sequence[str]
    run: Map

    @property
    def n_shares(self) -> int:
        return 1 + sum(self.n_images) // HASHES_A_TASK

    def units(self, one: Search, gone: np.ndarray | None = None) -> list[str]:
        """The files of what a search of groups of units finds. gone: rising positions that take no part."""
        gone = np.zeros(0, np.int64) if gone is None else gone
        groups, versions = [], []
        for units in partition.groups_of(self.n_images, HASHES_A_TASK):
            low, high = np.searchsorted(gone, [self.starts[units.start], self.starts[units.stop]])
            own = np.ascontiguousarray(gone[low:high])
            groups.append(Group(units, self.starts[units.start : units.stop], own))
            versions.append("\n".join([*self.index_sha256[units.start : units.stop], own.tobytes().hex()]))
        return partition.search(self.layout, [one], groups, versions, self.n_shares, self.run)[0]

    def firsts(self, searches: list[Search], urls: list[str]) -> list[str]:
        """The files of what searches of other searches' files find."""
        found = partition.search(self.layout, searches, urls, urls, self.n_shares, self.run)
        return [url for urls in found for url in urls]


def _hash(settings: BuildSettings, layout: Layout, n_units: int, run: Map) -> list[int]:
    """Images that have hashes, of each unit."""
    n_images = []
    total = 0
    tell(Standing("hashes of images", "units", 0, n_units))
    hashed = run(partial(hash_unit, settings, layout), range(n_units), slow=True)
    for done, n in enumerate(hashed, start=1):
        n_images.append(n)
        total += n
        tell(Standing("hashes of images", "units", done, n_units, total))
    return n_images


def _near(search: _Search, wanted: DuplicateSettings) -> np.ndarray:
    """`EDGES` of every image that goes, to the first near one that stays."""
    found = search.units(compare.equal_hashes(search.layout, wanted.mirrored))
    equal = compare.edges_of_equal(found)
    pairs = search.firsts(compare.near_images(wanted.distance, wanted.mirrored), found)
    first = near.first_wins(partition.read(pairs, 0, EDGES))
    # whoever has a hash that went goes for the sake of the same sample
    if len(first) and len(equal):
        at = np.searchsorted(first["later"], equal["earlier"]).clip(max=len(first) - 1)
        went = first["later"][at] == equal["earlier"]
        equal["distance"][went] = first["distance"][at[went]]
        equal["earlier"][went] = first["earlier"][at[went]]
    return np.concatenate([first, equal])


def _concatenated(arrays: Iterable[np.ndarray], kind: np.dtype[Any]) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *arrays])


def _write(
    layout: Layout, starts: np.ndarray, edges: np.ndarray, captions: np.ndarray, run: Map, by_near: bool
) -> None:
    """`records.DUPLICATES`, by rising position and caption. by_near: whether images are compared by perceptual hashes."""
    positions = np.unique(
        np.concatenate([edges["later"], edges["earlier"], captions["later"], captions["earlier"]])
    )
    positions = positions[positions >= 0]
    units, begin = np.unique(np.searchsorted(starts, positions, side="right") - 1, return_index=True)
    ends = [*begin[1:].tolist(), len(positions)]
    work = [
        (unit, positions[i:end] - starts[unit])
        for unit, i, end in zip(units.tolist(), begin.tolist(), ends[: len(units)], strict=True)
    ]
    facts = pa.concat_tables(
        [
            records.HASHES.empty_table().select(compare.FACTS),
            *run(partial(compare.facts_of, layout), work),
        ]
    )
    every = [(int(e["later"]), -1, int(e["earlier"]), int(e["distance"])) for e in edges]
    every += [(int(c["later"]), int(c["caption"]), int(c["earlier"]), 0) for c in captions]
    every.sort()
    with (
        storage.atomic_write(layout.duplicates) as target,
        pq.ParquetWriter(target, records.DUPLICATES) as writer,
    ):
        for start in range(0, len(every), ROW_GROUP):
            rows = list(_rows(every[start : start + ROW_GROUP], starts, positions, facts, by_near))
            writer.write_table(pa.Table.from_pylist(rows, records.DUPLICATES), ROW_GROUP)


def _rows(
    some: list[tuple[int, int, int, int]],
    starts: np.ndarray,
    positions: np.ndarray,
    facts: pa.Table,
    by_near: bool,
) -> Iterator[dict[str, Any]]:
    later = np.array([item[0] for item in some])
    earlier = np.array([item[2] for item in some])
    units = np.searchsorted(starts, later, side="right") - 1
    own = facts.take(pa.array(np.searchsorted(positions, later))).to_pylist()
    others = facts.take(pa.array(np.searchsorted(positions, np.maximum(earlier, positions[0])))).to_pylist()
    for (_, caption, first, distance), unit, fact, kept in zip(
        some, units.tolist(), own, others, strict=True
    ):
        row = {
            "unit": unit,
            "row": fact["row"],
            "source_key": fact["source_key"],
            "key": records.key_of(fact["source_key"], fact["sha256"]),
            "distance": distance,
            "caption": fact["captions"][caption] if caption >= 0 else "",
        }
        if first < 0:
            yield {**row, "reason": "held_out_image", "kept": fact["held_out"], "kept_key": ""}
            continue
        key = records.key_of(kept["source_key"], kept["sha256"])
        equal = not by_near or kept["sha256"] == fact["sha256"]
        reason = "duplicate_pair" if caption >= 0 else "duplicate_image" if equal else "near_duplicate"
        yield {**row, "reason": reason, "kept": kept["source_key"], "kept_key": key}
