"""Every table that passes between stages or lies in a dataset, as pyarrow schemas: keys, units, order, invariants.

One row is one image, end to end. Regions of an image are equal-length, non-null list columns, sorted by falling
objectness; "no region" is an empty list, never null. Boxes are xyxy in [0, 1] of the upright image (EXIF
orientation applied), x to the right, y down.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_STRINGS = pa.list_(_field("item", pa.string()))
_IDS = pa.list_(_field("item", pa.int32()))


def _spans(first: pa.Field) -> pa.DataType:
    """Places in captions: `captions[caption][start:end]`, in characters."""
    places = [_field(name, pa.int32()) for name in ("caption", "start", "end")]
    return pa.list_(_field("item", pa.struct([first, *places])))


_CONCEPT_SPANS = _spans(_field("concept_id", pa.int32()))


def _phrases(first: pa.Field) -> pa.DataType:
    """Noun phrases of captions. `chunk` is [start, end] in characters, `expression` too, or empty."""
    places = [_field("chunk", _IDS), _field("expression", _IDS)]
    return pa.list_(_field("item", pa.struct([first, _field("caption", pa.int32()), *places])))


_CONCEPT_PHRASES = _phrases(_field("concept_id", pa.int32()))

#: The units of the input, in order: what `Source.units` lists, and what indexing each of them found.
UNITS = pa.schema(
    [
        _field("location", pa.string()),
        _field("n_bytes", pa.int64()),
        _field("version", pa.string()),
        _field("start", pa.int64()),
        _field("stop", pa.int64()),
        _field("n_rows", pa.int64()),
        _field("index_sha256", pa.string()),
    ]
)

#: The parts of the plan, in order. A part is one row group of its unit's index; `n_samples` counts the input samples
#: that its `n_rows` rows stand for (a damaged tar's row stands for several).
PARTS = pa.schema(
    [
        _field("name", pa.string()),
        _field("unit", pa.int32()),
        _field("row_group", pa.int32()),
        _field("index_sha256", pa.string()),
        _field("n_rows", pa.int64()),
        _field("n_samples", pa.int64()),
    ]
)

#: What a source knows of a sample before its image is read. `location` names the file that holds it, relative to the
#: source's root, `offset`/`n_bytes` the byte range of the image in it (offset -1: the whole file, n_bytes its size;
#: `row` >= 0: a row of a parquet file or a number of a generated world). `captions` holds every caption of the image
#: that is not blank, in source order; `mentions` the names that they mention, sorted, `spans` where, `phrases` the noun
#: phrases around them (`head`: where a chunk's root begins). `problem` is empty, or the reason why this sample will be
#: rejected (duplicate_key, no_caption, ...); then `n_samples` may be more than 1. `extra` is a JSON object of what
#: `source.extra` names, "" where it names nothing.
INDEX = pa.schema(
    [
        _field("source_key", pa.string()),
        _field("location", pa.string()),
        _field("offset", pa.int64()),
        _field("n_bytes", pa.int64()),
        _field("row", pa.int64()),
        _field("captions", _STRINGS),
        _field("problem", pa.string()),
        _field("n_samples", pa.int64()),
        _field("extra", pa.string()),
        _field("mentions", _STRINGS),
        _field("spans", _spans(_field("name", pa.string()))),
        _field("phrases", _phrases(_field("head", pa.int32()))),
    ]
)

#: A sample with its original image bytes, untouched. `key` is `sample_key(source_key, image)`; `mentioned` holds the
#: ids of the pool's concepts that its captions name, rising; `spans` say where, by caption and place; `phrases` are the
#: noun phrases around them, none without `pool.phrases`.
SAMPLES = pa.schema(
    [
        _field("key", pa.string()),
        _field("source_key", pa.string()),
        _field("source", pa.string()),
        _field("image", pa.large_binary()),
        _field("captions", _STRINGS),
        _field("extra", pa.string()),
        _field("mentioned", _IDS),
        _field("spans", _CONCEPT_SPANS),
        _field("phrases", _CONCEPT_PHRASES),
    ]
)

#: A sample of an existing dataset, its members byte for byte, and the ids of the new pool's concepts that its
#: captions name, where, and in which noun phrases: what relabelling starts from.
STORED = pa.schema(
    [
        _field("key", pa.string()),
        _field("extension", pa.string()),
        _field("image", pa.large_binary()),
        _field("meta", pa.string()),
        _field("arrays", pa.large_binary()),
        _field("mentioned", _IDS),
        _field("spans", _CONCEPT_SPANS),
        _field("phrases", _CONCEPT_PHRASES),
    ]
)

#: A sample with its regions. `arrays` is the .npz member, byte for byte (docs/format.md lists its arrays); `meta`
#: is the .json member. They are made where the arrays are, so that the writer only copies bytes.
ANNOTATED = pa.schema(
    [
        _field("key", pa.string()),
        _field("extension", pa.string()),
        _field("image", pa.large_binary()),
        _field("meta", pa.string()),
        _field("arrays", pa.large_binary()),
        _field("n_regions", pa.int32()),
        _field("n_pairs", pa.int32()),
        _field("pair_concept_ids", _IDS),
    ]
)

#: A sample that is not in the dataset, and why. `reason` is a short fixed word, `detail` is for people. `n_samples`
#: is 1, but for a damaged tar: the samples that it must have held behind the damage.
REJECTS = pa.schema(
    [
        _field("part", pa.string()),
        _field("stage", pa.string()),
        _field("source_key", pa.string()),
        _field("reason", pa.string()),
        _field("detail", pa.string()),
        _field("n_samples", pa.int64()),
    ]
)

#: Who repeats whom, by rising (unit, row): where the plan has the sample that went (or that lost `caption`; "": the image
#: is the reason). `reason` is that of the reject row. `distance` counts bits of perceptual hashes. `kept` is the source
#: key of the sample that stays and `kept_key` its key, or the name on a held-out list and "".
DUPLICATES = pa.schema(
    [
        _field("unit", pa.int32()),
        _field("row", pa.int64()),
        _field("source_key", pa.string()),
        _field("key", pa.string()),
        _field("reason", pa.string()),
        _field("distance", pa.int32()),
        _field("caption", pa.string()),
        _field("kept", pa.string()),
        _field("kept_key", pa.string()),
    ]
)

#: The hashes of a unit's usable images, by row of its index: of the file's bytes, of the pixels ("" where nobody asked),
#: perceptual ones of the image and its mirror image (0 where nobody asked). `held_out` is the name that the image has on
#: a held-out list, `distance` how far it is from it. `captions` where pairs are compared.
HASHES = pa.schema(
    [
        _field("row", pa.int64()),
        _field("source_key", pa.string()),
        _field("sha256", pa.binary()),
        _field("pixels", pa.binary()),
        _field("near", pa.uint64()),
        _field("mirror", pa.uint64()),
        _field("held_out", pa.string()),
        _field("distance", pa.int32()),
        _field("captions", _STRINGS),
    ]
)

#: Where the members of a shard's samples lie in it, in tar order: byte offset and length of each.
SHARD_INDEX = pa.schema(
    [
        _field("key", pa.string()),
        _field("extension", pa.string()),
        *(
            _field(f"{member}_{what}", pa.int64())
            for member in ("image", "json", "npz")
            for what in ("offset", "bytes")
        ),
    ]
)

#: One row a committed part, in `manifest/<part>.json` (with `rejects` and `seconds` besides) and `manifest.parquet`.
MANIFEST = pa.schema(
    [
        _field("shard", pa.string()),
        _field("part", pa.string()),
        _field("n_read", pa.int64()),
        _field("n_samples", pa.int64()),
        _field("n_rejected", pa.int64()),
        _field("n_regions", pa.int64()),
        _field("n_pairs", pa.int64()),
        _field("n_bytes", pa.int64()),
        _field("sha256", pa.string()),
        _field("index_sha256", pa.string()),
        _field("fingerprint", pa.string()),
        _field("pool", pa.string()),
        _field("keep_rate", pa.float64()),
        _field("concept_ids", pa.list_(pa.int32())),
        _field("concept_counts", pa.list_(pa.int64())),
    ]
)


def with_images(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of a schema with an `image` column; the images are copied once, where `from_pylist` copies them as
    often as its buffer grows."""
    place = schema.get_field_index("image")
    images = [row["image"] for row in rows]
    ends = np.cumsum([0, *map(len, images)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(images))]
    column = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(images), buffers)
    return pa.Table.from_pylist(rows, schema.remove(place)).add_column(place, schema.field(place), column)


def with_views(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table with an `image` column; images are views of its memory, not copies."""
    views: list[memoryview] = []
    for chunk in table["image"].chunks:
        _, ends, data = chunk.buffers()
        view = memoryview(data or b"")
        at = (
            np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
            if ends
            else []
        )
        views += [view[start:stop] for start, stop in itertools.pairwise(at)]
    return [
        {**row, "image": view}
        for row, view in zip(table.drop_columns("image").to_pylist(), views, strict=True)
    ]


def sample_key(source_key: str, image: bytes) -> str:
    """24 hex digits that name a sample by content: sha256 of its source key and of its image bytes. No dots."""
    return key_of(source_key, hashlib.sha256(image).digest())


def key_of(source_key: str, sha256: bytes) -> str:
    """The key of a sample, by the sha256 of its image bytes."""
    return hashlib.sha256(source_key.encode("utf-8") + b"\0" + sha256).hexdigest()[:24]
