"""The first pass, unit by unit: list the samples, parse their captions, cut them into parts.

Every function here is work for one task: it gets a number and a unit, leaves files below `plan/`, and returns a small
record. The record's own file is written last, so a pass that was cut short goes on with the units that have none.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from concept_pool.count import Counts, count_parsed, parse_block, phrases_in, spans_of
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings
from pipeline import filters, sources
from pipeline.block_list import BlockList
from pipeline.dataset import records
from pipeline.dataset.layout import Layout
from pipeline.dataset.units import UnitRecord
from pipeline.settings import BuildSettings
from pipeline.sources import Unit

#: Images whose captions are parsed together.
BLOCK = 1000


def index_unit(
    settings: BuildSettings, layout: Layout, number: int, unit: Unit, limit: int = 0
) -> UnitRecord:
    """Indexes a unit: writes its index, its counts and its record. limit: at most so many rows; 0: all."""
    source = sources.load(settings.source)
    rows = list(_limited(source.index(unit), limit))
    mark_blocked(rows, BlockList.of_setting(settings.source.block_list))
    filters.filter_rows(rows, settings.filters)
    mark_duplicates(rows)
    return _write(settings, layout, number, rows)


def mark_blocked(rows: Iterable[dict[str, Any]], listed: BlockList) -> None:
    """Marks every usable row whose source key is listed, and forgets its captions."""
    for row in rows:
        if not row["problem"] and listed.entry_of(row["source_key"]):
            row |= {"problem": "blocked: its source key is on source.block_list", "captions": [], "extra": ""}


def mark_unit(settings: BuildSettings, layout: Layout, number: int, duplicates: list[int]) -> UnitRecord:
    """Marks rows of an indexed unit, by number, as `duplicate_key`, and counts its captions again without them."""

    def mark(rows: list[dict[str, Any]]) -> None:
        for row in duplicates:
            rows[row]["problem"] = "duplicate_key"

    return change_unit(settings, layout, number, mark)


def change_unit(
    settings: BuildSettings, layout: Layout, number: int, change: Callable[[list[dict[str, Any]]], None]
) -> UnitRecord:
    """Changes the rows of an indexed unit (problems, captions) and counts its captions again."""
    rows = storage.read_table(layout.unit_index(number)).to_pylist()
    change(rows)
    return _write(settings, layout, number, rows)


def mark_duplicates(rows: Iterable[dict[str, Any]]) -> None:
    """Marks every usable row whose source key an earlier usable row of the unit has."""
    seen: set[str] = set()
    for row in rows:
        if row["problem"]:
            continue
        if row["source_key"] in seen:
            row["problem"] = "duplicate_key"
        seen.add(row["source_key"])


def merge_counts(layout: Layout, urls: list[str], target: str) -> str:
    """Merges tables of counts into one file; returns its URL."""
    total = Counts()
    for url in urls:
        total.merge(Counts.from_table(storage.read_table(url)))
    _write_table(target, total.to_table())
    return target


def _write(settings: BuildSettings, layout: Layout, number: int, rows: list[dict[str, Any]]) -> UnitRecord:
    counts = _parse(settings.pool, rows, int(settings.filters.number("min_nouns")))
    index_sha256 = _write_table(
        layout.unit_index(number),
        pa.Table.from_pylist(rows, records.INDEX),
        row_group_size=settings.samples_per_shard,
    )
    counts_sha256 = _write_table(layout.unit_counts(number), counts.to_table())
    parts = [
        [_content_hash(part), len(part), sum(r["n_samples"] for r in part)]
        for part in _cut(rows, settings.samples_per_shard)
    ]
    n_samples = sum(r["n_samples"] for r in rows)
    record = UnitRecord(number, len(rows), n_samples, index_sha256, counts_sha256, parts)
    storage.write_bytes(layout.unit_record(number), json.dumps(asdict(record)).encode())
    return record


def _parse(settings: PoolSettings, rows: list[dict[str, Any]], min_nouns: int = 0) -> Counts:
    """Counts of the captions, and `mentions`, `spans` and `phrases` of every row. Captions with fewer nouns are dropped.

    Only samples that may reach a shard are counted: a duplicate or a missing file does not vote.
    """
    parser = _parser(settings)
    total = Counts(settings.max_examples)
    for block in _cut(rows, BLOCK):
        if min_nouns:
            drop_without_nouns(block, parser, min_nouns)
        captions = [[] if r["problem"] else r["captions"] for r in block]
        parsed = parse_block(captions, parser)
        counts, mentions = count_parsed(parsed, parser)
        total.merge(counts)
        for row, own, image, names in zip(block, captions, parsed, mentions, strict=True):
            row["mentions"] = names
            row["spans"] = spans_of(own, image, parser)
            row["phrases"] = phrases_in(own, image, parser)
    return total


def drop_without_nouns(rows: list[dict[str, Any]], parser: Parser, min_nouns: int) -> None:
    """Drops captions with fewer nouns than that, proper and invisible ones among them; `no_noun` where none is left.

    What is parsed here is in the parser's memory when captions are counted.
    """
    usable = [row for row in rows if not row["problem"]]
    parsed = iter(parser.analyse([caption for row in usable for caption in row["captions"]]))
    for row in usable:
        few = {
            c for c in row["captions"] if len((read := next(parsed)).names) + len(read.rejected) < min_nouns
        }
        filters.drop_captions(row, few.__contains__, "no_noun")


@lru_cache(maxsize=2)
def _parser(settings: PoolSettings) -> Parser:
    """One parser a process for the same settings: loading spaCy takes longer than a block."""
    return Parser(settings)


def _write_table(url: str, table: pa.Table, row_group_size: int | None = None) -> str:
    """Writes a parquet file; returns its sha256."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=row_group_size)
    storage.write_bytes(url, sink.getvalue())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _content_hash(rows: list[dict[str, Any]]) -> str:
    """12 hex digits over what identifies the samples of a part."""
    names = [name for name in records.INDEX.names if name not in ("mentions", "spans", "phrases")]
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row[name] for name in names], ensure_ascii=False).encode())
    return digest.hexdigest()[:12]


def _cut(rows: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def _limited(rows: Iterator[dict[str, Any]], limit: int) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if limit and number == limit:
            return
        yield row
