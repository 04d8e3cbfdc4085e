"""ODVG: `odvg.jsonl`, a grounding record an image, as MM-Grounding-DINO trains on (`ODVGDataset` without a label map).

Names that the chosen caption lacks stand behind it, so that every pair is a region.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import storage
from exports.grounding import grounded_all
from exports.json_files import json_lines
from exports.pairs import Pair, image_name
from pipeline.dataset import Dataset, Sample


@contextlib.contextmanager
def writer(dataset: Dataset, out: str) -> Iterator[Callable[[Sample, list[Pair]], int]]:
    """Writes every pair."""
    with json_lines(storage.join(out, "odvg.jsonl")) as add_line:

        def add(sample: Sample, pairs: list[Pair]) -> int:
            add_line(record(sample, pairs))
            return len(pairs)

        yield add


def record(sample: Sample, pairs: list[Pair]) -> dict[str, Any]:
    """A line: boxes are x0, y0, x1, y1 in pixels, `tokens_positive` character spans of the caption."""
    width, height = sample.meta["width"], sample.meta["height"]
    found = grounded_all(sample.meta["captions"], pairs)
    regions = [
        {
            "bbox": pair.box_xyxy(width, height),
            "phrase": found.caption[spans[0][0] : spans[0][1]],
            "tokens_positive": [list(span) for span in spans],
        }
        for pair, spans in found.pairs
    ]
    return {
        "filename": image_name(sample),
        "height": height,
        "width": width,
        "grounding": {"caption": found.caption, "regions": regions},
    }
