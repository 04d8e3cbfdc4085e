"""Every table that passes between stages, as pyarrow schemas: keys, units, order, invariants.

One row is one image, end to end. Regions of an image are equal-length, non-null list columns, sorted by falling
objectness; "no region" is an empty list, never null. Boxes are xyxy in [0, 1] of the upright image (EXIF
orientation applied), x to the right, y down.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

FORMAT_VERSION = 1

#: What a source knows of a sample before its image is read. `location` names the file that holds it, relative to the
#: source's root, `offset`/`n_bytes` the byte range of the image in it (offset -1: the whole file, n_bytes its size;
#: `row` >= 0: a row of a parquet file or an index of a generated world). `captions` holds every caption of the image that
#: is not blank, in source order. `problem` is empty, or "reason: detail" of why this sample will be rejected; a row of a
#: damaged file may stand for several samples (`n_samples`).
INDEX = pa.schema(
    [
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("location", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("captions", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("n_samples", pa.int64(), nullable=False),
    ]
)

#: A sample with its original image bytes, untouched. `key` is `sample_key(source_key, image)`; `mentioned` holds the
#: ids of the pool's concepts that its captions name, rising.
SAMPLES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("image", pa.large_binary(), nullable=False),
        pa.field("captions", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.field("mentioned", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)

#: A sample with its regions. `arrays` is the .npz member, byte for byte (docs/format.md lists its arrays); `meta`
#: is the .json member. They are made where the arrays are, so that the writer only copies bytes.
ANNOTATED = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("extension", pa.string(), nullable=False),
        pa.field("image", pa.large_binary(), nullable=False),
        pa.field("meta", pa.string(), nullable=False),
        pa.field("arrays", pa.large_binary(), nullable=False),
        pa.field("n_regions", pa.int32(), nullable=False),
        pa.field("n_pairs", pa.int32(), nullable=False),
        pa.field("pair_concept_ids", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)

#: A sample that is not in the dataset, and why. `reason` is a short fixed word, `detail` is for people.
REJECTS = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)


def sample_key(source_key: str, image: bytes) -> str:
    """24 hex digits that name a sample by content: sha256 of its source key and of its image bytes. No dots."""
    digest = hashlib.sha256(source_key.encode("utf-8") + b"\0" + hashlib.sha256(image).digest())
    return digest.hexdigest()[:24]
