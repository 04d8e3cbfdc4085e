"""Captions in, counts out: one unit (what a worker runs), and the loop over all units (what one process
runs).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from concept_pool.captions import CaptionSettings, Unit, blocks
from concept_pool.count import Counts, count_block
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings


@functools.lru_cache(maxsize=2)
def parser_of(settings: PoolSettings) -> Parser:
    """One parser a process for the same settings: loading spaCy takes longer than a block."""
    return Parser(settings)


def count_unit(source: CaptionSettings, unit: Unit, settings: PoolSettings) -> Counts:
    """Counts of one unit of the corpus."""
    parser = parser_of(settings)
    counts = Counts(max_examples=settings.max_examples)
    for block in blocks(source, unit):
        counts.merge(count_block([captions for _, captions in block], parser)[0])
    return counts


def count_corpus(
    source: CaptionSettings,
    all_units: Iterable[Unit],
    settings: PoolSettings,
    on_unit: Callable[[Counts], None] | None = None,
) -> Counts:
    """Counts of the whole corpus in this process; `on_unit` sees the counts so far after each unit."""
    counts = Counts(max_examples=settings.max_examples)
    for unit in all_units:
        counts.merge(count_unit(source, unit, settings))
        if on_unit:
            on_unit(counts)
    return counts
