"""Which images of a part go through the models together. A function of the part alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.images import upright_size_of
from pipeline.teachers.tower import SizeOf


def micro_batches(sizes: list[tuple[int, int]], largest: int) -> list[list[int]]:
    """Positions, each once, in batches of at most `largest`: the fewest passes that images of one size a pass allow.

    First the batches of `largest` images of one size, by their last image; then what is left of each size, several sizes a
    batch. sizes: of each image.
    """
    filling: dict[tuple[int, int], list[int]] = {}
    batches = []
    for position, size in enumerate(sizes):
        batch = filling.setdefault(size, [])
        batch.append(position)
        if len(batch) == largest:
            batches.append(filling.pop(size))
    mixed: list[int] = []
    for left in filling.values():
        if len(mixed) + len(left) > largest:
            batches.append(mixed)
            mixed = []
        mixed += left
    return [*batches, mixed] if mixed else batches


def seen_size(image: bytes, size_of: SizeOf) -> tuple[int, int]:
    """At which size the teacher sees an encoded image, by its header; (0, 0) for one that cannot be decoded."""
    width, height = upright_size_of(image)
    return size_of(height, width) if width and height else (0, 0)


def in_order(rows: Iterable[dict[str, Any]], keys: list[str], key: str) -> list[dict[str, Any]]:
    """Rows sorted by the place that `row[key]` has among the keys."""
    places = {name: place for place, name in enumerate(keys)}
    return sorted(rows, key=lambda row: places[row[key]])
