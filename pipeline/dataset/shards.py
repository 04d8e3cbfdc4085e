"""Shards: annotated samples -> the bytes of a tar -> a committed file and its manifest row.

Only the manifest row makes a shard exist: it is written last, and both writes are atomic. Whatever happens between
them leaves a file that the next run overwrites with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import storage

#: Manifest rows, in `manifest/<name>.json` (with `rejects` and `seconds` besides) and in `manifest.parquet`.
MANIFEST = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("n_read", pa.int64(), nullable=False),
        pa.field("n_samples", pa.int64(), nullable=False),
        pa.field("n_rejected", pa.int64(), nullable=False),
        pa.field("n_regions", pa.int64(), nullable=False),
        pa.field("n_pairs", pa.int64(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("pool", pa.string(), nullable=False),
        pa.field("keep_rate", pa.float64(), nullable=False),
        pa.field("concept_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("concept_counts", pa.list_(pa.int64()), nullable=False),
    ]
)


class NotConserved(RuntimeError):
    """Samples read, written and rejected do not add up."""


def pack(samples: Iterable[dict[str, Any]]) -> bytes:
    """Rows of `records.ANNOTATED` -> the bytes of a WebDataset tar: the same rows always give the same bytes.

    Samples are sorted by key and their three members are adjacent; mtime, uid and gid are 0, mode is 0644.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in sorted(samples, key=lambda s: s["key"]):
            members = {
                sample["extension"]: sample["image"],
                "json": sample["meta"].encode(),
                "npz": sample["arrays"],
            }
            for extension in sorted(members):
                info = tarfile.TarInfo(f"{sample['key']}.{extension}")
                info.size = len(members[extension])
                info.mode = 0o644
                tar.addfile(info, io.BytesIO(members[extension]))
    return buffer.getvalue()


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """The .npz member: uncompressed, no pickle, fixed time stamps (np.savez writes none of its own)."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz member. Refuses pickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


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


def commit(
    out: str,
    part: str,
    n_read: int,
    samples: list[dict[str, Any]],
    rejects: list[dict[str, Any]],
    identity: dict[str, str],
    seconds: Callable[[], dict[str, float]],
) -> dict[str, Any]:
    """Writes `shards/<part>.tar`, then `manifest/<part>.json`; returns the row.

    identity: the hashes of `fingerprint` and `pool`. seconds: asked once the shard is written. A part
    without a sample leaves a row and no tar. Raises NotConserved, with nothing written, unless n_read = samples + rejects.
    """
    if n_read != len(samples) + len(rejects):
        raise NotConserved(
            f"part {part}: read {n_read}, have {len(samples)} samples + {len(rejects)} rejects"
        )
    rejects = sorted(rejects, key=lambda r: (r["source_key"], r["stage"], r["reason"]))
    keys = [s["key"] for s in samples]
    if len(set(keys)) != len(keys):
        raise NotConserved(f"part {part}: two samples have the same key")
    data = pack(samples) if samples else b""
    if samples:
        storage.write_bytes(storage.join(out, "shards", f"{part}.tar"), data)
    concepts = sorted(Counter(i for s in samples for i in s["pair_concept_ids"]).items())
    n_regions, n_pairs = (sum(s[name] for s in samples) for name in ("n_regions", "n_pairs"))
    row = {
        "shard": f"{part}.tar" if samples else "",
        "part": part,
        "n_read": n_read,
        "n_samples": len(samples),
        "n_rejected": len(rejects),
        "n_regions": n_regions,
        "n_pairs": n_pairs,
        "n_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **identity,
        "keep_rate": n_pairs / n_regions if n_regions else 0.0,
        "concept_ids": [i for i, _ in concepts],
        "concept_counts": [n for _, n in concepts],
        "rejects": rejects,
        "seconds": seconds(),
    }
    storage.write_bytes(
        storage.join(out, "manifest", f"{part}.json"), json.dumps(row, ensure_ascii=False).encode()
    )
    return row


def manifest_rows(out: str) -> dict[str, dict[str, Any]]:
    """Part name -> its manifest row, for every committed part; a row that is not whole JSON counts as absent."""
    rows = {}
    for name in sorted(storage.listing(storage.join(out, "manifest"))):
        if name.startswith(storage.TEMPORARY) or not name.endswith(".json"):
            continue
        try:
            row = json.loads(storage.read_bytes(storage.join(out, "manifest", name)))
            rows[row["part"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return rows


def damage(out: str, row: dict[str, Any], recheck: str, sizes: dict[str, int]) -> str:
    """Why the shard of a manifest row cannot be trusted, or "". `sizes`: the listing of `shards/`."""
    if not row["shard"]:
        return ""
    if row["shard"] not in sizes:
        return "missing"
    if sizes[row["shard"]] != row["n_bytes"]:
        return f"{sizes[row['shard']]} bytes instead of {row['n_bytes']}"
    if recheck == "bytes" and storage.sha256(storage.join(out, "shards", row["shard"])) != row["sha256"]:
        return "its bytes have changed"
    return ""
