"""A Hugging Face dataset folder: `README.md` (the card), `data/train-00000.parquet`, ..., and a small split `viewer`.

datasets.load_dataset("OUT")     # an image a row, with its captions and objects
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

import storage
from exports.card import card
from exports.pairs import Pair, image_name
from exports.parquet_files import parquet_files
from pipeline.dataset import Dataset, Sample

_OBJECTS = pa.list_(
    pa.struct(
        [
            ("bbox", pa.list_(pa.float32())),
            ("concept_id", pa.int32()),
            ("concept", pa.string()),
            ("probability", pa.float32()),
            ("score", pa.float32()),
        ]
    )
)
#: What `datasets` has to be told of the columns: that the image is one.
_FEATURES = {
    "key": {"dtype": "string", "_type": "Value"},
    "image": {"_type": "Image"},
    "width": {"dtype": "int32", "_type": "Value"},
    "height": {"dtype": "int32", "_type": "Value"},
    "source_key": {"dtype": "string", "_type": "Value"},
    "captions": [{"dtype": "string", "_type": "Value"}],
    "objects": [
        {
            "bbox": [{"dtype": "float32", "_type": "Value"}],
            "concept_id": {"dtype": "int32", "_type": "Value"},
            "concept": {"dtype": "string", "_type": "Value"},
            "probability": {"dtype": "float32", "_type": "Value"},
            "score": {"dtype": "float32", "_type": "Value"},
        }
    ],
}
#: `bbox` is x0, y0, x1, y1 in pixels of the upright image.
ROWS = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_key", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("objects", _OBJECTS),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
#: Row groups are what the hub's viewer reads at once.
GROUP_ROWS = 100
FILE_BYTES = 500 << 20
#: Images of the split `viewer`: the first ones.
VIEWER_ROWS = 100


@contextlib.contextmanager
def writer(dataset: Dataset, out: str) -> Iterator[Callable[[Sample, list[Pair]], int]]:
    """Writes every image with every pair; the card is written last, with the counts."""
    n_samples = n_pairs = 0

    def name(number: int) -> str:
        return storage.join(out, f"data/train-{number:05d}.parquet")

    def viewer(_: int) -> str:
        return storage.join(out, "data/viewer-00000.parquet")

    with (
        parquet_files(name, ROWS, GROUP_ROWS, FILE_BYTES) as add_row,
        parquet_files(viewer, ROWS, VIEWER_ROWS, 1 << 62) as add_to_viewer,
    ):

        def add(sample: Sample, pairs: list[Pair]) -> int:
            nonlocal n_samples, n_pairs
            row = row_of(sample, pairs)
            add_row(row)
            if n_samples < VIEWER_ROWS:
                add_to_viewer(row)
            n_samples += 1
            n_pairs += len(pairs)
            return len(pairs)

        yield add
    storage.write_bytes(storage.join(out, "README.md"), card(dataset, n_samples, n_pairs).encode())


def row_of(sample: Sample, pairs: list[Pair]) -> dict[str, Any]:
    """A row of `ROWS`."""
    meta = sample.meta
    objects = [
        {
            "bbox": pair.box_xyxy(meta["width"], meta["height"]),
            **{k: getattr(pair, k) for k in ("concept_id", "concept", "probability", "score")},
        }
        for pair in pairs
    ]
    return {
        "key": sample.key,
        "image": {"bytes": sample.image, "path": image_name(sample)},
        **{k: meta[k] for k in ("width", "height", "source_key", "captions")},
        "objects": objects,
    }
