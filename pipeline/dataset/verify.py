"""Re-checks a dataset against its own manifest, byte by byte, and says what is missing, damaged or foreign."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import storage
from pipeline.dataset import blocks, check_format, claim, columns, concepts, manifest, records
from pipeline.dataset.damage import DamagedDataset, by_its_maker
from pipeline.dataset.images import images_of, location_of
from pipeline.dataset.layout import Layout, is_ours
from pipeline.dataset.lost_rows import restore_rows
from pipeline.dataset.plan import DamagedPlan, Plan
from pipeline.dataset.units import counts_fault, index_fault
from pipeline.dataset.verify_parts import Expected, RowsOf, block_faults
from pipeline.standing import Standing, tell

log = logging.getLogger("regionpairs")

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def verify(url: str, run: Map = map) -> Iterator[str]:
    """One line for every fault found in the dataset at `url`; none if it is whole.

    Checks: every part of the plan has a manifest row and its shard; size, sha256, sample count, key order and array
    lengths of every shard, and its index; the index of every unit; one pool and one fingerprint throughout, which are
    those of `fingerprint.json`; the pool and its embeddings against their hashes; `settings.yaml`, `summary.json`,
    `manifest.parquet` and `rejects.parquet` against the rows; read = written + rejected; nothing else in the folder. Of a
    label-only dataset: its images are where it says and have its keys; their own bytes are that dataset's business. Of
    attached columns: every file.

    run: how blocks of parts are looked at, in order (a runner's `map`). Memory does not grow with the dataset, but for the
    plan.
    """
    layout = Layout(storage.absolute(url))
    try:
        components = check_format(layout)
    except FileNotFoundError as e:
        yield f"missing: {e}"
        return
    except ValueError as e:
        gone = isinstance(e.__cause__, FileNotFoundError)
        yield f"{'missing' if gone else 'damaged'}: {e}"
        return
    try:
        plan = Plan.read(layout)
    except FileNotFoundError:
        yield "missing: plan/plan.json (the build has not come so far)"
        return
    except DamagedPlan as e:
        yield str(e)
        return
    yield from _unit_faults(layout, plan, run)
    yield from _pool_faults(layout, plan, components, run)
    yield from _classifier_faults(layout, components)
    yield from _foreign(layout, plan)
    yield from _image_faults(layout, components)
    yield from columns.faults(layout, (_identity(layout, components) or {}).get("fingerprint"))
    yield from _part_faults(layout, plan, components, run)


def _unit_faults(layout: Layout, plan: Plan, run: Map) -> Iterator[str]:
    planned = enumerate(plan.units.column("index_sha256").to_pylist())
    yield from filter(None, run(partial(index_fault, layout), planned))


def _pool_faults(layout: Layout, plan: Plan, components: Any, run: Map) -> Iterator[str]:
    """What is wrong with the pool, and then with what a build makes it of anew: the units' records and counts."""
    damaged = False
    for fault in _faults_of_pool(layout):
        damaged = True
        yield fault
    expected = _identity(layout, components)
    if not damaged and expected and manifest.says(layout, expected["fingerprint"]) is False:
        damaged = True
        yield "foreign: concept_pool or fingerprint.json: no part was made with both"
    if damaged and isinstance(components, dict) and "input" in components:
        planned = enumerate(plan.units.column("index_sha256").to_pylist())
        yield from filter(None, run(partial(counts_fault, layout), planned))


def _faults_of_pool(layout: Layout) -> Iterator[str]:
    try:
        record = json.loads(storage.read_bytes(layout.embeddings_record))
        changed = concepts.changed_files(layout, record)
        pool = record["pool"]
    except FileNotFoundError:
        yield "missing: the concept pool (concept_pool/embeddings.json)"
        return
    except (ValueError, KeyError, TypeError) as e:
        yield f"damaged: concept_pool/embeddings.json: {type(e).__name__}: {str(e)[:200]}"
        return
    for name in changed:
        yield f"damaged: concept_pool/{name}: missing, or its sha256 is not the one in embeddings.json"
    if changed:
        return
    try:
        if concepts.load_pool(layout).hash != pool:
            yield f"damaged: the concept pool's hash is not {pool}"
    except (FileNotFoundError, ValueError, KeyError, TypeError) as e:
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
        made_for = _of_samples(components) or expected["fingerprint"]
        from_bytes(storage.read_bytes(layout.classifier), made_for)
    except FileNotFoundError:
        yield f"missing: {name}"
    except (ValueError, KeyError, TypeError) as e:
        yield f"damaged: {name}: {e}"


def _image_faults(layout: Layout, components: Any) -> Iterator[str]:
    """What is wrong with the place of the images of a dataset that holds labels alone."""
    try:
        place = images_of(layout, components)
        rows = manifest.read_table(place) if place else None
    except (FileNotFoundError, ValueError) as e:
        yield f"images: {' '.join(str(e).split())}"
        return
    if place is None or rows is None:
        return
    wanted = [(s, n) for s, n in zip(*(rows[c].to_pylist() for c in ("shard", "n_bytes")), strict=True) if s]
    for first in range(0, len(wanted), _AT_ONCE):
        some = wanted[first : first + _AT_ONCE]
        there = storage.sizes(place.file("shards"), [shard for shard, _ in some])
        for shard, n_bytes in some:
            if there.get(shard) != n_bytes:
                fault = "is damaged" if shard in there else "is missing"
                yield f"images: {shard} of {place.url} {fault}: `regionpairs verify` of that dataset says more"


#: Shards whose sizes are asked for together.
_AT_ONCE = 1000
#: Folders with one file a part, and what follows the part's name.
_OF_PARTS = {"index": ".parquet", "manifest": ".json", "shards": ".tar"}


def _is_a_systems(name: str) -> bool:
    """Whether a file is what an operating system leaves behind: nobody's data. A dead writer's leftovers are told of."""
    base = name.rsplit("/", 1)[-1]
    return storage.is_litter(base) and not base.startswith((storage.TEMPORARY, ".claim"))


def _foreign(layout: Layout, plan: Plan) -> Iterator[str]:
    """Files that no part, no unit and no step of the program has. Folders of a file a part are read as a stream."""
    found = [name for name in _names(layout, "", set(_OF_PARTS)) if not is_ours(name)]
    for folder, suffix in _OF_PARTS.items():
        for name in storage.names(layout.file(folder)):
            if not (name.endswith(suffix) and plan.parts.has(name.removesuffix(suffix))):
                found.append(f"{folder}/{name}")
    yield from (f"foreign: {name}" for name in sorted(found) if not _is_a_systems(name))


def _names(layout: Layout, folder: str, but: set[str]) -> Iterator[str]:
    """The files below a folder of the dataset, by their names in it; folders named in `but` are left out."""
    files, folders = storage.children(layout.file(folder))
    for name in files:
        yield f"{folder}/{name}" if folder else name
    for name in folders:
        if (below := f"{folder}/{name}" if folder else name) not in but:
            yield from _names(layout, below, but)


def _part_faults(layout: Layout, plan: Plan, components: Any, run: Map) -> Iterator[str]:
    """Faults of rows and shards, block by block, then of what sums them up."""
    expected = _expected(layout, components)
    totals: Counter[str] = Counter()
    with (
        RowsOf(layout.manifest, records.MANIFEST) as manifest_rows,
        RowsOf(layout.rejects, records.REJECTS) as rejects,
    ):
        n_blocks = -(-len(plan.parts) // blocks.SIZE)
        tell(Standing("verify", "blocks of parts", 0, n_blocks))
        for done, block in enumerate(
            run(partial(block_faults, layout, expected), blocks.of(plan.parts)), start=1
        ):
            if done < n_blocks:
                tell(Standing("verify", "blocks of parts", done, n_blocks))
            yield from block.faults
            totals.update(block.totals)
            manifest_rows.expect(block.manifest)
            rejects.expect(block.rejects)
        yield from manifest_rows.faults()
        yield from rejects.faults()
    yield from _summary_faults(layout, totals)


def _expected(layout: Layout, components: Any) -> Expected:
    """What every row and sample has to be."""
    labels_only = isinstance(components, dict) and bool(components.get("images"))
    try:
        images = location_of(layout) if labels_only else None
    except ValueError:
        images = None  # `_image_faults` says so
    return Expected(_identity(layout, components), _of_samples(components), labels_only, images)


def _identity(layout: Layout, components: Any) -> dict[str, str] | None:
    """The hashes that every row must have; None where the pool's record is not whole (`_pool_faults` says so)."""
    from pipeline.fingerprint import identity_of

    return identity_of(layout, components)


def _of_samples(components: Any) -> str | None:
    """The fingerprint that samples and classifier carry where they are another dataset's (after a removal)."""
    return components.get("samples") if isinstance(components, dict) else None


def repair(url: str, run: Map = map) -> list[str]:
    """Removes row, shard and index of every part that is damaged, so that the command that built the dataset builds them
    again and changes nothing else; returns those parts. Rows that are lost or another dataset's come back first, where the
    table of a finished dataset has them: they cost no shard.

    The tables and the summary go too where a part did, for they speak of it: until the build has run, the dataset is an
    unfinished one. Raises DamagedPlan where there is no plan that can be read, DamagedDataset where no part at all is of
    this dataset's fingerprint (then that file is wrong, and nothing is removed), and `storage.Claimed`.
    """
    layout = Layout(storage.absolute(url))
    components = check_format(layout)
    with claim.held(layout) as token:
        plan = Plan.committed(layout)
        expected = _expected(layout, components)
        if restored := restore_rows(layout, plan.parts, expected.identity):
            log.info("%d manifest rows are written anew, from manifest.parquet", restored)
        _require_own(layout, expected)
        removed: list[str] = []
        for block in run(partial(block_faults, layout, expected), blocks.of(plan.parts)):
            storage.require_claim(layout.url, token)
            for part in block.parts:
                for file in (layout.row(part), layout.shard(part), layout.index(part)):
                    storage.remove(file)
            removed += block.parts
        if removed or list(_summary_faults(layout, Counter())):
            for file in (layout.summary, layout.manifest, layout.rejects):
                storage.remove(file)
        return removed


def _require_own(layout: Layout, expected: Expected) -> None:
    """Raises DamagedDataset where there are parts and each is of another fingerprint than `fingerprint.json` gives, or the
    table of a finished dataset is: then these files may be the wrong ones."""
    if expected.identity is None:
        return
    own = expected.identity["fingerprint"]
    rows = manifest.read_rows(layout, manifest.committed(layout))
    others = (row["fingerprint"] != own for row in rows if row)
    if (next(others, False) and all(others)) or manifest.fingerprint_of_table(layout) not in (None, own):
        raise DamagedDataset(
            f"{layout.fingerprint}, concept_pool/embeddings.json and the manifest are not all of one dataset; nothing was "
            "removed",
            by_its_maker(layout.url),
        )


def _summary_faults(layout: Layout, totals: Counter[str]) -> Iterator[str]:
    """The summary against the rows' sums, and against the files whose hashes it has."""
    name = "summary.json"
    try:
        summary = json.loads(storage.read_bytes(layout.summary))
        wrong = [key for key, value in totals.items() if summary[key] != value]
        hashes = dict(summary["sha256"])
    except FileNotFoundError:
        yield f"missing: {name} (the build has not finished)"
        return
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        yield f"damaged: {name}: {type(e).__name__}: {str(e)[:200]}"
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
