"""COCO: `instances.json` and `results.json` (boxes with scores) for pycocotools, and `captions.json`.

A category's id is its concept's id + 1, since some readers take 0 for background. Image and annotation ids count from 1 in
the dataset's order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import storage
from exports.json_files import json_list, json_lists
from exports.pairs import Pair, image_name
from pipeline.dataset import Dataset, Sample


@contextlib.contextmanager
def writer(dataset: Dataset, out: str) -> Iterator[Callable[[Sample, list[Pair]], int]]:
    """Writes every pair."""
    info = {"info": {"description": f"region-text pairs, dataset {dataset.fingerprint}"}}
    names = enumerate(dataset.pool.names, start=1)
    instances_head = {**info, "categories": [{"id": i, "name": name} for i, name in names]}
    lists = ("images", "annotations")
    with (
        json_lists(storage.join(out, "instances.json"), instances_head, lists) as instances,
        json_lists(storage.join(out, "captions.json"), info, lists) as captions,
        json_list(storage.join(out, "results.json")) as add_result,
    ):
        n_images = n_boxes = n_captions = 0

        def add(sample: Sample, pairs: list[Pair]) -> int:
            nonlocal n_images, n_boxes, n_captions
            n_images += 1
            image = image_record(n_images, sample)
            instances["images"](image)
            captions["images"](image)
            for text in sample.meta["captions"]:
                n_captions += 1
                captions["annotations"]({"id": n_captions, "image_id": n_images, "caption": text})
            for pair in pairs:
                n_boxes += 1
                found = box_record(n_images, sample, pair) | {"category_id": pair.concept_id + 1}
                instances["annotations"]({"id": n_boxes, **found, "score": pair.score})
                add_result({k: found[k] for k in ("image_id", "category_id", "bbox")} | {"score": pair.score})
            return len(pairs)

        yield add


def image_record(image_id: int, sample: Sample) -> dict[str, Any]:
    """An image as COCO has it. `source_key` is what the dataset's source calls it."""
    return {
        "id": image_id,
        "file_name": image_name(sample),
        "width": sample.meta["width"],
        "height": sample.meta["height"],
        "source_key": sample.meta["source_key"],
    }


def box_record(image_id: int, sample: Sample, pair: Pair) -> dict[str, Any]:
    """An annotation without its id and category: bbox is x, y, width, height in pixels of the upright image."""
    bbox = pair.box_xywh(sample.meta["width"], sample.meta["height"])
    return {"image_id": image_id, "bbox": bbox, "area": round(bbox[2] * bbox[3], 2), "iscrowd": 0}
