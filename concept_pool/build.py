"""Captions in, counts out: one unit of the corpus (what a worker runs), the merging of counts, the index.

The caption index says which concepts the captions of each image name. Its names are known while counting, its ids
only with the finished pool; so counting leaves a file of names a unit, and `write_index` turns them into ids.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from concept_pool.count import Counts, count_block
from concept_pool.parse import Parser
from concept_pool.pool import ConceptPool
from concept_pool.settings import PoolSettings

#: Images that are parsed at a time.
BLOCK_IMAGES = 1000
_STRINGS = pa.list_(pa.field("item", pa.string(), nullable=False))
_IDS = pa.list_(pa.field("item", pa.int32(), nullable=False))
#: What a unit leaves for the index: the names that the captions of each image mention.
MENTIONS = pa.schema(
    [pa.field("image", pa.string(), nullable=False), pa.field("names", _STRINGS, nullable=False)]
)
#: The caption index: class ids, sorted and unique, that the captions of each image name.
INDEX = pa.schema(
    [pa.field("image", pa.string(), nullable=False), pa.field("concept_ids", _IDS, nullable=False)]
)


@functools.lru_cache(maxsize=2)
def parser_of(settings: PoolSettings) -> Parser:
    """One parser a process for the same settings: loading spaCy takes longer than a block."""
    return Parser(settings)


def count_unit(
    images: Iterable[tuple[str, list[str]]],
    settings: PoolSettings,
    mentions_url: str | None = None,
    on_block: Callable[[int], None] | None = None,
) -> Counts:
    """Counts of one unit of the corpus, given as (image key, its captions).

    Writes the unit's `MENTIONS` to `mentions_url`; `on_block` gets how many captions were counted. Noun phrases are not
    looked for: nothing here would keep them.
    """
    parser = parser_of(dataclasses.replace(settings, phrases=False))
    counts = Counts(max_examples=settings.max_examples)
    found: list[pa.Table] = []
    remaining = iter(images)
    while block := list(itertools.islice(remaining, BLOCK_IMAGES)):
        block_counts, names = count_block([captions for _, captions in block], parser)
        counts.merge(block_counts)
        if mentions_url:
            found.append(pa.table([[image for image, _ in block], names], schema=MENTIONS))
        if on_block:
            on_block(block_counts.n_captions)
    if mentions_url:
        table = pa.concat_tables(found) if found else MENTIONS.empty_table()
        with storage.atomic_write(mentions_url) as file:
            pq.write_table(table, file, compression="zstd")
    return counts


def merge_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Counts as tables, merged: what a node of the merging tree does."""
    merged = Counts()
    for table in tables:
        merged.merge(Counts.from_table(table))
    return merged.to_table()


def write_index(
    mention_urls: Iterable[str], pool: ConceptPool, url: str, rows_per_group: int = 16384
) -> None:
    """The caption index of the corpus as one parquet file, images in the order of the units.

    Its bytes do not depend on how the corpus was cut into units.
    """
    with storage.atomic_write(url) as sink, pq.ParquetWriter(sink, INDEX, compression="zstd") as writer:
        waiting = INDEX.empty_table()
        for mentions in mention_urls:
            with storage.open_read(mentions) as file, pq.ParquetFile(file) as parquet:
                table = parquet.read()
            ids = pa.array([pool.ids_of(names) for names in table["names"].to_pylist()], _IDS)
            waiting = pa.concat_tables([waiting, pa.table([table["image"], ids], schema=INDEX)])
            while waiting.num_rows >= rows_per_group:
                writer.write_table(waiting.slice(0, rows_per_group).combine_chunks())
                waiting = waiting.slice(rows_per_group)
        if waiting.num_rows:
            writer.write_table(waiting.combine_chunks())
