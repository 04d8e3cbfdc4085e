"""Shards: annotated samples -> the bytes of a tar and of its index -> committed files and a manifest row.

Only the manifest row makes a shard exist: it is written last, and every write is atomic. Whatever happens between
them leaves files that the next run overwrites with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import manifest, records
from pipeline.dataset.layout import Layout
from pipeline.dataset.sample import SIDE_MEMBERS, Sample

_BLOCK = 512


def _empty() -> bytes:
    info = tarfile.TarInfo()
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


#: A header without name and size; the sum of its bytes beside size and checksum, which counts as eight blanks.
_EMPTY = _empty()
_SUM = sum(_EMPTY[:124]) + sum(_EMPTY[136:148]) + 8 * ord(" ") + sum(_EMPTY[156:])


class NotConserved(RuntimeError):
    """Samples read, written and rejected do not add up."""


def pack(samples: Iterable[dict[str, Any]], images: bool = True) -> tuple[bytes, pa.Table]:
    """Rows of `records.ANNOTATED` -> the bytes of a WebDataset tar and its `records.SHARD_INDEX`.

    The same rows always give the same bytes: samples are sorted by key and their three members are adjacent; mtime,
    uid and gid are 0, mode is 0644. images: False leaves the images out; their place in the index has no bytes.
    """
    pieces: list[bytes | memoryview] = []
    at, index = 0, []
    for sample in sorted(samples, key=lambda s: s["key"]):
        members = {"json": sample["meta"].encode(), "npz": sample["arrays"]}
        row: dict[str, Any] = {"key": sample["key"], "extension": sample["extension"]}
        if images:
            members[sample["extension"]] = sample["image"]
        for extension in sorted(members):
            data = members[extension]
            kind = extension if extension in SIDE_MEMBERS else "image"
            row |= {f"{kind}_offset": at + _BLOCK, f"{kind}_bytes": len(data)}
            padding = -len(data) % _BLOCK
            pieces += (_header(f"{sample['key']}.{extension}", len(data)), data, bytes(padding))
            at += _BLOCK + len(data) + padding
        if not images:
            row |= {"image_offset": row["json_offset"], "image_bytes": 0}
        index.append(row)
    end = 2 * _BLOCK
    pieces.append(bytes(end + -(at + end) % tarfile.RECORDSIZE))
    return b"".join(pieces), pa.Table.from_pylist(index, records.SHARD_INDEX)


def _header(name: str, size: int) -> bytes:
    """The header of a tar's member, as `TarInfo.tobuf` makes it. name: up to 100 bytes of ASCII; size: below 8 GiB."""
    file, n_bytes = name.encode("ascii"), b"%011o\0" % size
    total = _SUM + sum(file) + sum(n_bytes)
    return b"".join(
        (file.ljust(100, b"\0"), _EMPTY[100:124], n_bytes, _EMPTY[136:148], b"%06o\0 " % total, _EMPTY[156:])
    )


def read_shard(data: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members (extension -> bytes) of each sample of a tar, in order. Raises tarfile.TarError for damage."""
    key = ""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for info in tar:
            stem, _, extension = info.name.partition(".")
            if stem != key and members:
                yield key, members
                members = {}
            key = stem
            content = tar.extractfile(info)
            members[extension] = content.read() if content else b""
    if members:
        yield key, members


def samples_of(data: bytes) -> Iterator[Sample]:
    """The samples of a shard's bytes, in order."""
    for key, members in read_shard(data):
        yield Sample.parse(key, members)


def joined(labels: bytes, images: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample of a shard of labels alone, with the image that another shard has for it.

    Raises ValueError for a sample that the other one lacks.
    """
    others = read_shard(images)  # both are sorted by key
    for key, members in read_shard(labels):
        own = next((found for other, found in others if other == key), None)
        if own is None:
            raise ValueError(f"the images' shard lacks sample {key}")
        yield key, {**members, **{name: data for name, data in own.items() if name not in SIDE_MEMBERS}}


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a parquet file; equal tables, equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def commit(
    layout: Layout,
    part: str,
    n_read: int,
    samples: list[dict[str, Any]],
    rejects: list[dict[str, Any]],
    identity: dict[str, str],
    seconds: Callable[[], dict[str, float]] = dict,
    images: bool = True,
) -> dict[str, Any]:
    """Writes the shard of a part, its index and then its manifest row; returns the row.

    n_read: input samples of the part. samples: rows of `records.ANNOTATED`. rejects: rows of `records.REJECTS`.
    identity: the hashes of `fingerprint` and `pool`. seconds: asked once the shard is written. A part without a sample
    leaves a row alone. images: False leaves the images out. Raises NotConserved, with nothing written,
    unless n_read = samples + rejected samples.
    """
    n_rejected = sum(r["n_samples"] for r in rejects)
    if n_read != len(samples) + n_rejected:
        raise NotConserved(f"part {part}: read {n_read}, have {len(samples)} samples + {n_rejected} rejects")
    rejects = sorted(rejects, key=lambda r: (r["source_key"], r["stage"], r["reason"], r["detail"]))
    if len({s["key"] for s in samples}) != len(samples):
        raise NotConserved(f"part {part}: two samples have the same key")
    data, index = pack(samples, images) if samples else (b"", None)
    index_data = to_parquet(index) if index is not None else b""
    if samples:
        storage.write_bytes(layout.shard(part), data)
        storage.write_bytes(layout.index(part), index_data)
    concepts = sorted(Counter(i for s in samples for i in s["pair_concept_ids"]).items())
    n_regions, n_pairs = (sum(s[name] for s in samples) for name in ("n_regions", "n_pairs"))
    row = {
        "shard": f"{part}.tar" if samples else "",
        "part": part,
        "n_read": n_read,
        "n_samples": len(samples),
        "n_rejected": n_rejected,
        "n_regions": n_regions,
        "n_pairs": n_pairs,
        "n_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "index_sha256": hashlib.sha256(index_data).hexdigest(),
        **identity,
        "keep_rate": n_pairs / n_regions if n_regions else 0.0,
        "concept_ids": [i for i, _ in concepts],
        "concept_counts": [n for _, n in concepts],
        "rejects": rejects,
        "seconds": seconds(),
    }
    manifest.write_row(layout, row)
    return row


def carry(
    source: Layout,
    layout: Layout,
    row: dict[str, Any],
    identity: dict[str, str],
    seconds: Callable[[], dict[str, float]] = dict,
) -> dict[str, Any]:
    """Commits a part of the dataset at `source` as it is, under another identity; returns the row.

    The shard and its index are the same files under a second name where that is possible, else copies (docs/format.md).
    """
    part = row["part"]
    if row["shard"]:
        storage.link_or_copy(source.shard(part), layout.shard(part))
        storage.link_or_copy(source.index(part), layout.index(part))
    row = {**row, **identity, "seconds": seconds()}
    manifest.write_row(layout, row)
    return row
