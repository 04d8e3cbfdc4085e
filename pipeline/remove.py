"""A dataset -> the same without listed samples, beside it. What is not listed stays as it is, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline import generation
from pipeline.block_list import BlockList
from pipeline.dataset import Dataset, check_format
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.finish import incompleteness
from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.dataset.plan import Part, Plan, as_index, part_rows, unit_index_bytes
from pipeline.dataset.records import INDEX
from pipeline.runner import Runner
from pipeline.settings import BuildSettings


def remove(dataset: str, settings: BuildSettings, listed: BlockList, runner: Runner) -> dict[str, Any]:
    """Writes the dataset at `dataset` without the listed samples to `settings.out`; returns the new one's summary.

    settings: the dataset's own with another `out`. The new fingerprint names the old one (`made_from`). Removed samples
    become reject rows `removed`, and the plan forgets their captions. Of the summary, `not_found` are the entries that no
    sample has. Raises ValueError for a dataset that is not complete or the same folder, Refused, Incomplete.
    """
    from pipeline.stages.remove import Removal, Remove

    opened = Dataset.open(dataset)
    source = opened.layout
    if storage.location(settings.out, "out", write=True) == source.url:
        raise ValueError("out: a removal needs a folder of its own, beside the dataset")
    if opened.images:
        raise ValueError(
            f"{source.url} holds labels alone: remove from {opened.images.url}, where its images are, and label that anew"
        )
    plan = Plan.committed(source)
    if wrong := incompleteness(plan, runner.map):
        raise DamagedDataset(f"{source.url} is {wrong}")
    found = runner.map(partial(matches, source, listed, listed.has_images), list(plan.parts))
    by_part = {part.name: own for part, own in zip(plan.parts, found, strict=True) if own}
    made_with = check_format(source)
    options = Removal(listed, by_part)
    components = {
        "format_version": FORMAT_VERSION,
        "made_from": opened.fingerprint,
        "by": "remove",
        "options": options.identity(),
        "samples": made_with.get("samples", opened.fingerprint),
        "corpus": made_with.get("corpus"),
        "pool": opened.pool_hash,
    }
    summary = generation.make(
        source,
        settings,
        components,
        (Remove,),
        runner,
        options,
        lambda layout: _plan(plan, layout, by_part, runner),
        lambda layout, components: generation.copied_pool(source, layout, components, classifier=True),
    )
    used = {entry for own in by_part.values() for entry in own.values()}
    return {**summary, "not_found": sorted(listed.entries - used)}


def matches(source: Layout, listed: BlockList, look: bool, part: Part) -> dict[str, str]:
    """Source key -> entry, of the listed samples of a part. look: at the images' bytes too."""
    from pipeline.stages.read_shard import stored_index, stored_part

    rows = part_rows(source, part).select(["source_key", "problem"]).to_pylist()
    found = {
        r["source_key"]: r["source_key"]
        for r in rows
        if not r["problem"] and listed.entry_of(r["source_key"])
    }
    row, _ = stored_part(source, part.name, with_bytes=False)
    if not row["shard"]:
        return {}
    keys = stored_index(source, row)["key"].to_pylist()
    if not look and not found and not any(map(listed.entry_of, keys)):
        return {}
    return dict(_in_shard(source, listed, part))


def _in_shard(source: Layout, listed: BlockList, part: Part) -> Iterator[tuple[str, str]]:
    from pipeline.dataset.shards import samples_of
    from pipeline.stages.read_shard import stored_part

    for sample in samples_of(stored_part(source, part.name)[1]):
        name = sample.meta["source_key"]
        if entry := listed.entry_of(name, sample.key) or listed.entry_of_image(sample.image):
            yield name, entry


def _plan(plan: Plan, layout: Layout, by_part: dict[str, dict[str, str]], runner: Runner) -> Plan:
    """The dataset's plan in the new folder, without the captions of what goes. plan: the dataset's own."""
    gone: dict[int, set[str]] = {}
    for part in plan.parts:
        if own := by_part.get(part.name):
            gone.setdefault(part.unit, set()).update(own)
    was = plan.units.column("index_sha256").to_pylist()
    work = [(unit, sha256, gone.get(unit, set())) for unit, sha256 in enumerate(was)]
    write = partial(_unit, plan.layout, layout)
    try:
        there = Plan.read(layout)
    except (FileNotFoundError, ValueError):
        pass
    else:
        for _ in runner.map(write, [work[unit] for unit in generation.broken_units(there, runner)]):
            pass
        return there
    sha256 = dict(runner.map(write, work))
    units = [sha256[unit] for unit in range(plan.units.num_rows)]
    parts = [sha256[unit] for unit in plan.parts.table["unit"].to_pylist()]
    return Plan.write(layout, _with_sha256(plan.units, units), _with_sha256(plan.parts.table, parts))


def _with_sha256(table: pa.Table, sha256: list[str]) -> pa.Table:
    at = table.schema.get_field_index("index_sha256")
    return table.set_column(at, table.schema.field(at), pa.array(sha256, pa.string()))


def _unit(source: Layout, layout: Layout, work: tuple[int, str, set[str]]) -> tuple[int, str]:
    """Writes the index of a unit without the captions of these source keys; the unit and the new file's sha256. work: the
    unit, the sha256 of its index, the keys."""
    unit, expected, gone = work
    url, data = layout.unit_index(unit), unit_index_bytes(source, unit, expected)
    if gone:
        with (
            pq.ParquetFile(storage.arrow_file(data)) as file,
            storage.atomic_write(url) as target,
            pq.ParquetWriter(target, INDEX) as writer,
        ):
            for group in range(file.num_row_groups):
                rows = as_index(file.read_row_group(group)).to_pylist()
                writer.write_table(pa.Table.from_pylist([_forgotten(r, gone) for r in rows], INDEX))
    else:
        storage.write_bytes(url, data)
    return unit, storage.sha256(url)


def _forgotten(row: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    if row["source_key"] not in gone or row["problem"]:
        return row
    return {
        **row,
        "captions": [],
        "mentions": [],
        "spans": [],
        "phrases": [],
        "extra": "",
        "problem": "removed",
    }
