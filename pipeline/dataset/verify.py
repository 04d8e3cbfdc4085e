"""Re-checks a dataset against its own manifest, byte by byte, and says what is missing, damaged or foreign."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline.dataset import check_format, concepts, manifest, records
from pipeline.dataset.layout import Layout, is_ours
from pipeline.dataset.plan import DamagedPlan, Plan
from pipeline.dataset.sample import REGION_ARRAYS, Sample, is_pair
from pipeline.dataset.shards import read_shard

_ERRORS = (tarfile.TarError, KeyError, ValueError, OSError, TypeError, EOFError)


def verify(url: str) -> Iterator[str]:
    """One line for every fault found in the dataset at `url`; none if it is whole.

    Checks: every part of the plan has a manifest row and its shard; size, sha256, sample count, key order and array
    lengths of every shard, and its index; the index of every unit; one pool and one fingerprint throughout, which are
    those of `fingerprint.json`; the pool and its embeddings against their hashes; `settings.yaml`, `summary.json`,
    `manifest.parquet` and `rejects.parquet` against the rows; read = written + rejected; nothing else in the folder.
    """
    layout = Layout(storage.absolute(url))
    try:
        components = check_format(layout)
    except FileNotFoundError as e:
        yield f"missing: {e}"
        return
    except ValueError as e:
        yield f"damaged: {e}"
        return
    try:
        plan = Plan.read(layout)
    except FileNotFoundError:
        yield "missing: plan/plan.json (the build has not come so far)"
        return
    except DamagedPlan as e:
        yield str(e)
        return
    yield from _unit_faults(layout, plan)
    yield from _pool_faults(layout)
    yield from _classifier_faults(layout, components)
    yield from _foreign(layout, plan)
    yield from _part_faults(layout, plan, components)


def _unit_faults(layout: Layout, plan: Plan) -> Iterator[str]:
    for unit, expected in enumerate(plan.units.column("index_sha256").to_pylist()):
        name = f"plan/index/{unit:06d}.parquet"
        try:
            if storage.sha256(layout.unit_index(unit)) != expected:
                yield f"damaged: {name}: its sha256 is not the one that was planned"
        except FileNotFoundError:
            yield f"missing: {name}"


def _pool_faults(layout: Layout) -> Iterator[str]:
    try:
        record = json.loads(storage.read_bytes(layout.embeddings_record))
        changed = concepts.changed_files(layout, record)
        pool = record["pool"]
    except FileNotFoundError:
        yield "missing: the concept pool (concept_pool/embeddings.json)"
        return
    except (ValueError, KeyError, TypeError) as e:
        yield f"damaged: concept_pool/embeddings.json: {e!r}"
        return
    for name in changed:
        yield f"damaged: concept_pool/{name}: missing, or its sha256 is not the one in embeddings.json"
    if changed:
        return
    try:
        if concepts.load_pool(layout).hash != pool:
            yield f"damaged: the concept pool's hash is not {pool}"
    except (ValueError, KeyError, TypeError, OSError) as e:
        yield f"damaged: concept_pool: {' '.join(str(e).split())[:200]}"


def _classifier_faults(layout: Layout, components: Any) -> Iterator[str]:
    """What is wrong with the classifier of a dataset that has corpus labels."""
    if not (isinstance(components, dict) and components.get("corpus")):
        return
    from pipeline.corpus.classifier import from_bytes
    from pipeline.fingerprint import identity

    name = "concept_pool/classifier.safetensors"
    try:
        expected = identity(components, json.loads(storage.read_bytes(layout.embeddings_record)))
        from_bytes(storage.read_bytes(layout.classifier), expected["fingerprint"])
    except FileNotFoundError:
        yield f"missing: {name}"
    except (ValueError, KeyError, TypeError) as e:
        yield f"damaged: {name}: {e}"


def _foreign(layout: Layout, plan: Plan) -> Iterator[str]:
    names = plan.parts.names
    known = {"shards": "{}.tar", "index": "{}.parquet", "manifest": "{}.json"}
    expected = {f"{folder}/{form.format(name)}" for folder, form in known.items() for name in names}
    for name in sorted(storage.tree(layout.url)):
        if (name.split("/")[0] in known and name not in expected) or not is_ours(name):
            yield f"foreign: {name}"


def _part_faults(layout: Layout, plan: Plan, components: Any) -> Iterator[str]:
    """Faults of rows and shards, part by part, then of what sums them up."""
    from pipeline.fingerprint import identity

    try:
        expected = identity(components, json.loads(storage.read_bytes(layout.embeddings_record)))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        expected = None  # said above
    sums = _Sums()
    for part, row in zip(plan.parts, manifest.read_rows(layout, plan.parts.names), strict=True):
        if row is None:
            yield f"missing: part {part.name} has no manifest row that is whole"
            continue
        sums.add(row)
        if row["n_read"] != part.n_samples or row["n_read"] != row["n_samples"] + row["n_rejected"]:
            yield f"damaged: part {part.name}: {part.n_samples} planned, its row does not add up to that"
        elif row["n_rejected"] != sum(r["n_samples"] for r in row["rejects"]):
            yield f"damaged: part {part.name}: its rejects are not {row['n_rejected']}"
        if expected is not None and {k: row[k] for k in expected} != expected:
            yield f"foreign: part {part.name} was made with {row['fingerprint']}, here is {expected['fingerprint']}"
        yield from _shard_faults(layout, row)
    yield from sums.faults(layout)


def _shard_faults(layout: Layout, row: dict[str, Any]) -> Iterator[str]:
    if not row["shard"]:
        return
    name = f"shards/{row['shard']}"
    try:
        data = storage.read_bytes(layout.shard(row["part"]))
    except FileNotFoundError:
        yield f"missing: {name}"
        return
    if len(data) != row["n_bytes"]:
        yield f"damaged: {name}: {len(data)} bytes, the manifest says {row['n_bytes']}"
    elif hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield f"damaged: {name}: its sha256 is not the manifest's"
    else:
        yield from _sample_faults(data, name, row)
        yield from _index_faults(layout, data, row)


def _sample_faults(data: bytes, name: str, row: dict[str, Any]) -> Iterator[str]:
    """What is wrong inside a shard whose bytes are those that were committed."""
    keys: list[str] = []
    n_regions = n_pairs = 0
    try:
        for key, members in read_shard(data):
            keys.append(key)
            sample = Sample.parse(key, members)
            lengths = {len(sample.arrays[a]) for a in REGION_ARRAYS}
            if len(members) != 3 or lengths != {sample.meta["n_regions"]}:
                yield f"damaged: {name}: sample {key}: members {sorted(members)}, array lengths {sorted(lengths)}"
            if any(
                sample.meta[k] != v
                for k, v in (("key", key), *((k, row[k]) for k in ("fingerprint", "pool")))
            ):
                yield f"damaged: {name}: sample {key} does not belong to this shard"
            n_regions += sample.meta["n_regions"]
            n_pairs += int(is_pair(sample.arrays).sum())
    except _ERRORS as e:
        yield f"damaged: {name}: {type(e).__name__}: {str(e)[:200]}"
        return
    if keys != sorted(set(keys)):
        yield f"damaged: {name}: keys are not unique and sorted"
    if (len(keys), n_regions, n_pairs) != (row["n_samples"], row["n_regions"], row["n_pairs"]):
        yield f"damaged: {name}: {len(keys)} samples, {n_regions} regions, {n_pairs} pairs; the manifest differs"


def _index_faults(layout: Layout, data: bytes, row: dict[str, Any]) -> Iterator[str]:
    name = f"index/{row['part']}.parquet"
    try:
        index = storage.read_bytes(layout.index(row["part"]))
    except FileNotFoundError:
        yield f"missing: {name}"
        return
    if hashlib.sha256(index).hexdigest() != row["index_sha256"]:
        yield f"damaged: {name}: its sha256 is not the manifest's"
        return
    for entry in pq.ParquetFile(pa.BufferReader(index)).read().to_pylist():
        for member in ("image", "json", "npz"):
            extension = entry["extension"] if member == "image" else member
            header = data[entry[f"{member}_offset"] - 512 : entry[f"{member}_offset"]][:100].rstrip(b"\0")
            if header.decode("ascii", "replace") != f"{entry['key']}.{extension}":
                yield f"damaged: {name}: {entry['key']}.{extension} does not lie where it says"
                return


class _Sums:
    """The rows together, against the files that sum them up."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._rejects: list[dict[str, Any]] = []
        self._totals: Counter[str] = Counter()

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append({name: row[name] for name in records.MANIFEST.names})
        self._rejects += row["rejects"]
        self._totals.update(
            {k: row[k] for k in ("n_read", "n_samples", "n_rejected", "n_regions", "n_pairs", "n_bytes")}
        )

    def faults(self, layout: Layout) -> Iterator[str]:
        for url, rows, schema in (
            (layout.manifest, self._rows, records.MANIFEST),
            (layout.rejects, self._rejects, records.REJECTS),
        ):
            yield from _table_faults(url, rows, schema)
        name = "summary.json"
        try:
            summary = json.loads(storage.read_bytes(layout.summary))
            wrong = [key for key, value in self._totals.items() if summary[key] != value]
            hashes = dict(summary["sha256"])
        except FileNotFoundError:
            yield f"missing: {name} (the build has not finished)"
            return
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            yield f"damaged: {name}: {e!r}"
            return
        if wrong:
            yield f"damaged: {name}: its {', '.join(wrong)} are not those of the rows"
        for name, url in (
            ("settings.yaml", layout.settings),
            ("manifest.parquet", layout.manifest),
            ("rejects.parquet", layout.rejects),
        ):
            try:
                if storage.sha256(url) != hashes.get(name):
                    yield f"damaged: {name}: its sha256 is not the one in summary.json"
            except FileNotFoundError:
                yield f"missing: {name}"


def _table_faults(url: str, rows: list[dict[str, Any]], schema: pa.Schema) -> Iterator[str]:
    name = url.rsplit("/", 1)[-1]
    try:
        found = storage.read_table(url)
    except FileNotFoundError:
        return  # the summary's hashes say so
    except (OSError, ValueError, pa.ArrowException) as e:
        yield f"damaged: {name}: {str(e)[:200]}"
        return
    if found.to_pylist() != rows:
        yield f"damaged: {name} does not say what the manifest rows say"
