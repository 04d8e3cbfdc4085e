"""Captions that too many samples have: counted by hash partition, for any size of a task, any order and any stop."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import storage
from pipeline import partition, repeats, sources
from pipeline.dataset.layout import Layout
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.filters import FilterSettings
from pipeline.planning import make_plan
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds
from tests.pipeline.test_repeated_keys import Cut, OtherOrder


@pytest.mark.parametrize("rows_a_task", [1, 7, 1000])
def test_frequent_captions_are_those_of_a_plain_count(tmp_path, monkeypatch, rows_a_task):
    chance = random.Random(rows_a_task)
    layout = Layout(str(tmp_path))
    Path(layout.unit_index(0)).parent.mkdir(parents=True)
    counts: Counter[int] = Counter()
    n_rows = []
    for unit in range(6):
        rows = [
            {
                "captions": [f"A  ball {chance.randrange(30)}" for _ in range(chance.randrange(4))],
                "problem": chance.choice(["", "", "no_noun"]),
            }
            for _ in range(chance.randrange(12))
        ]
        for row in rows:
            counts.update({repeats._number(c) for c in row["captions"]} if not row["problem"] else [])
        kinds = pa.schema([("captions", pa.list_(pa.string())), ("problem", pa.string())])
        pq.write_table(pa.Table.from_pylist(rows, kinds), layout.unit_index(unit))
        n_rows.append(len(rows))
    monkeypatch.setattr(repeats, "ROWS_A_TASK", rows_a_task)
    table = repeats.frequent_captions(layout, n_rows, list("abcdef"), 1, OtherOrder().map)
    expected = sorted((caption, n) for caption, n in counts.items() if n > 1)
    assert expected
    assert list(zip(*table.to_pydict().values(), strict=True)) == expected


@pytest.fixture
def source(tmp_path) -> SourceSettings:
    """Four parquet files of four samples; one caption is everywhere, and every file repeats an image of the one before."""
    for number in range(4):
        seeds = [10 * number + i for i in (9, -7, 2, 3)] if number else [9, 1, 2, 3]
        images = [pictures.encode(pictures.photo(40, 30, seed=seed)) for seed in seeds]
        captions = ["a red ball on a table", *(f"a {word} boat {number}" for word in worlds.WORDS[:3])]
        table = {"key": [f"{number}-{i}" for i in range(4)], "image": images, "caption": captions}
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    return SourceSettings(kind="parquet", urls=[str(tmp_path / f"{n}.parquet") for n in range(4)])


def _interrupted(layout):
    raise KeyboardInterrupt


def test_a_plan_that_was_cut_in_any_pass_is_the_same(tmp_path, source, monkeypatch):
    from pipeline.duplicates import find

    rules = {
        "filters": FilterSettings(max_repeats=3),
        "duplicates": DuplicateSettings(images="bytes", pairs="bytes"),
    }
    settings = worlds.settings(tmp_path / "whole", source, reject_budget=1.0, **rules)
    make_plan(settings, sources.load(source), Layout(settings.out), LocalRunner().map)
    patterns = ("plan/index/*", "plan/*.parquet", "duplicates.parquet")
    before = {p: worlds.hashes(tmp_path / "whole", p) for p in patterns}
    again = dataclasses.replace(settings, out=str(tmp_path / "again"))
    layout = Layout(again.out)
    monkeypatch.setattr(repeats, "ROWS_A_TASK", 5)
    monkeypatch.setattr(find, "HASHES_A_TASK", 3)
    for at in ("scatter", "find", "_mark_frequent", "hash_unit", "facts_of", "_mark_duplicates"):
        with pytest.raises(KeyboardInterrupt):
            make_plan(again, sources.load(source), layout, Cut(at).map)
    with monkeypatch.context() as cut:
        cut.setattr(partition, "clear", _interrupted)
        with pytest.raises(KeyboardInterrupt):  # both tables are there by then
            make_plan(again, sources.load(source), layout, LocalRunner().map)
    assert storage.exists(layout.duplicates)
    assert storage.listing(layout.keys)
    make_plan(again, sources.load(source), layout, LocalRunner().map)
    assert not storage.listing(layout.keys)
    assert {p: worlds.hashes(tmp_path / "again", p) for p in patterns} == before
    assert storage.read_table(layout.frequent).num_rows
    assert storage.read_table(layout.duplicates).num_rows
