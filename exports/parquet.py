"""Parquet: `pairs-00000.parquet`, ...: a row a pair, for DuckDB, pandas and the like."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pyarrow as pa

import storage
from exports.pairs import Pair, image_name
from exports.parquet_files import parquet_files
from pipeline.dataset import Dataset, Sample

_STRINGS = pa.list_(pa.string())
_MENTIONS = pa.list_(
    pa.struct([("caption", pa.int32()), ("start", pa.int32()), ("end", pa.int32()), ("text", pa.string())])
)
#: x0 to y1 are in [0, 1] of the upright image, width and height its pixels. `captions` are all of the image's; `mentions`
#: say where they name the concept: number of the caption, characters, and the text that stands there.
PAIRS = pa.schema(
    [
        ("key", pa.string()), ("source_key", pa.string()), ("file_name", pa.string()), ("width", pa.int32()),
        ("height", pa.int32()), ("region", pa.int32()), ("x0", pa.float32()), ("y0", pa.float32()),
        ("x1", pa.float32()), ("y1", pa.float32()), ("concept_id", pa.int32()), ("concept", pa.string()),
        ("probability", pa.float32()), ("score", pa.float32()), ("objectness", pa.float32()),
        ("captions", _STRINGS), ("mentions", _MENTIONS),
    ]
)  # fmt: skip
GROUP_ROWS = 20_000
FILE_BYTES = 1 << 30


@contextlib.contextmanager
def writer(dataset: Dataset, out: str) -> Iterator[Callable[[Sample, list[Pair]], int]]:
    """Writes every pair."""

    def name(number: int) -> str:
        return storage.join(out, f"pairs-{number:05d}.parquet")

    with parquet_files(name, PAIRS, GROUP_ROWS, FILE_BYTES) as add_row:

        def add(sample: Sample, pairs: list[Pair]) -> int:
            meta = sample.meta
            captions = meta["captions"]
            for pair in pairs:
                add_row(
                    {
                        "key": sample.key,
                        "file_name": image_name(sample),
                        **{k: meta[k] for k in ("source_key", "width", "height", "captions")},
                        **dict(zip(("x0", "y0", "x1", "y1"), pair.box_xyxy_norm, strict=True)),
                        **{
                            k: getattr(pair, k)
                            for k in ("region", "concept_id", "concept", "probability", "score", "objectness")
                        },
                        "mentions": [
                            {**vars(m), "text": captions[m.caption][m.start : m.end]} for m in pair.mentions
                        ],
                    }
                )
            return len(pairs)

        yield add
