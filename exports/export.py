"""Writes a dataset in a format, shard by shard."""

from __future__ import annotations

import importlib
import json
from typing import Any

import storage
from exports import FORMATS
from exports.pairs import image_name, pairs_of
from pipeline.dataset import Dataset, manifest
from pipeline.standing import Standing, tell

#: Written last: the export is whole.
RECORD = "export.json"
#: Samples after which it says how far it is.
TELL_EVERY = 100


def export(dataset: Dataset, form: str, out: str, images: bool = False) -> dict[str, Any]:
    """Writes the dataset to the folder `out` in a format; returns the record that `export.json` holds.

    images: also the original images, as `images/<key>.<ext>`, which is the name that every format calls them by.
    `n_samples` and `n_pairs` of the record are what was written; `n_left_out` are pairs that the format has no place for.
    Raises ValueError for an unknown format, a folder that holds anything, a damaged shard, and counts that are not the
    manifest's.
    """
    if form not in FORMATS:
        raise ValueError(f"format: must be one of {', '.join(FORMATS)}, not '{form}'")
    out = storage.location(out, "out", write=True)
    if found := [name for name in sorted(storage.tree(out)) if not storage.is_litter(name)]:
        raise ValueError(
            f"out: {out} holds {len(found)} files, e.g. {found[0]}; an export needs a folder of its own"
        )
    counts = {"n_samples": 0, "n_pairs": 0, "n_left_out": 0}
    with importlib.import_module(FORMATS[form]).writer(dataset, out) as add:
        for sample in dataset.samples():
            pairs = pairs_of(sample)
            written = add(sample, pairs)
            if images:
                storage.write_bytes(storage.join(out, f"images/{image_name(sample)}"), sample.image)
            counts["n_samples"] += 1
            counts["n_pairs"] += written
            counts["n_left_out"] += len(pairs) - written
            if counts["n_samples"] % TELL_EVERY == 0:
                tell(Standing("export", "images", counts["n_samples"], dataset.n_samples))
        _check(dataset, counts)
    record = {
        "format": form,
        "dataset": dataset.fingerprint,
        "pool": dataset.pool_hash,
        "images": images,
        **counts,
    }
    storage.write_bytes(storage.join(out, RECORD), json.dumps(record, indent=1).encode())
    return record


def _check(dataset: Dataset, counts: dict[str, int]) -> None:
    """Raises ValueError unless the shards held what the manifest says."""
    rows = manifest.rows_of(dataset.layout)
    wanted = {name: sum(rows.column(name).to_pylist()) for name in ("n_samples", "n_pairs")}
    found = {"n_samples": counts["n_samples"], "n_pairs": counts["n_pairs"] + counts["n_left_out"]}
    if found != wanted:
        raise ValueError(f"{dataset.url}: its shards hold {found}, its manifest says {wanted}")
