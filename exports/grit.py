"""GRIT: `grit.jsonl`, an image a line, with the fields of the dataset that Kosmos-2 was trained on.

`noun_chunks` and `ref_exps` hold [start, end, x0, y0, x1, y1, score], characters of the caption and shares of the image.
The caption is the one that names the most pairs; pairs that it does not name are left out. Where the dataset has noun
phrases (`pool.phrases`), a chunk is the noun chunk around the name and `ref_exps` has the expressions; else a chunk is the
name alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import storage
from exports.grounding import grounded
from exports.json_files import json_lines
from exports.pairs import Pair
from pipeline.dataset import Dataset, Sample


@contextlib.contextmanager
def writer(dataset: Dataset, out: str) -> Iterator[Callable[[Sample, list[Pair]], int]]:
    """Writes the pairs that the chosen caption names."""
    with json_lines(storage.join(out, "grit.jsonl")) as add_line:

        def add(sample: Sample, pairs: list[Pair]) -> int:
            found = grounded(sample.meta["captions"], pairs)
            chunks, expressions = [], []
            for pair, spans in found.pairs:
                place = [*(round(v, 6) for v in pair.box_xyxy_norm), pair.score]
                phrase = next((p for p in pair.phrases if p.caption == found.number), None)
                chunks.append([*(phrase.chunk if phrase else spans[0]), *place])
                if phrase and phrase.expression:
                    expressions.append([*phrase.expression, *place])
            add_line(record(sample, found.caption, chunks, expressions))
            return len(chunks)

        yield add


def record(
    sample: Sample, caption: str, noun_chunks: list[list[Any]], ref_exps: list[list[Any]]
) -> dict[str, Any]:
    """A line. `url` is what the dataset's source calls the image."""
    return {
        "key": sample.key,
        "url": sample.meta["source_key"],
        "caption": caption,
        "width": sample.meta["width"],
        "height": sample.meta["height"],
        "noun_chunks": noun_chunks,
        "ref_exps": ref_exps,
    }
