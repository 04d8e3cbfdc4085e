"""YOLO-World: `yolo_world.json`, the COCO file with captions and spans that its mixed grounding dataset reads.

All boxes are of one category, `object`; the text of each is its span of the image's caption (exports/odvg.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import storage
from exports.coco import box_record, image_record
from exports.grounding import grounded_all
from exports.json_files import json_lists
from exports.pairs import Pair
from pipeline.dataset import Dataset, Sample


@contextlib.contextmanager
def writer(dataset: Dataset, out: str) -> Iterator[Callable[[Sample, list[Pair]], int]]:
    """Writes every pair. A box has one span: the reader joins several to one text."""
    head = {"categories": [{"id": 1, "name": "object"}]}
    with json_lists(storage.join(out, "yolo_world.json"), head, ("images", "annotations")) as lists:
        n_images = n_boxes = 0

        def add(sample: Sample, pairs: list[Pair]) -> int:
            nonlocal n_images, n_boxes
            n_images += 1
            found = grounded_all(sample.meta["captions"], pairs)
            lists["images"]({**image_record(n_images, sample), "caption": found.caption})
            for pair, spans in found.pairs:
                n_boxes += 1
                box = box_record(n_images, sample, pair)
                lists["annotations"](
                    {"id": n_boxes, **box, "category_id": 1, "tokens_positive": [list(spans[0])]}
                )
            return len(pairs)

        yield add
