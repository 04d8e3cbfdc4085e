"""Keys that an earlier unit has: which rows are marked, for any size of a task, any order of the workers and any stop."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import storage
from pipeline import repeated_keys, sources
from pipeline.build import build
from pipeline.dataset.layout import Layout
from pipeline.dataset.verify import verify
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.planning import make_plan
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds

COLUMNS = pa.schema([pa.field("source_key", pa.string()), pa.field("problem", pa.string())])


class OtherOrder(LocalRunner):
    """Threads take items side by side, the last one first."""

    def map(self, function, items, slow=False):
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(function, item) for item in reversed(list(items))]
            yield from [future.result() for future in reversed(futures)]


class Cut(LocalRunner):
    """Stops when a function is asked for its second item."""

    def __init__(self, at: str):
        self.at = at

    def map(self, function, items, slow=False):
        for number, item in enumerate(items):
            if getattr(getattr(function, "func", function), "__name__", "") == self.at and number == 1:
                raise KeyboardInterrupt
            yield function(item)


def indexed(layout: Layout, units: list[list[tuple[str, str]]]) -> None:
    """Writes indices of units of (source key, problem)."""
    for number, rows in enumerate(units):
        table = pa.Table.from_pylist([{"source_key": k, "problem": p} for k, p in rows], COLUMNS)
        Path(layout.unit_index(number)).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, layout.unit_index(number))


def slow_twin(units: list[list[tuple[str, str]]]) -> dict[int, list[int]]:
    seen: set[str] = set()
    found: dict[int, list[int]] = {}
    for number, rows in enumerate(units):
        for row, (key, problem) in enumerate(rows):
            if not problem or problem.partition(":")[0] in ("near_duplicate", "frequent_caption"):
                if key in seen:
                    found.setdefault(number, []).append(row)
                seen.add(key)
    return found


@pytest.mark.parametrize("keys_a_task", [1, 7, 40, 1000])
@pytest.mark.parametrize("runner", [LocalRunner, OtherOrder])
def test_the_first_in_plan_order_stays_for_any_task_size_and_order(
    tmp_path, monkeypatch, keys_a_task, runner
):
    chance = random.Random(keys_a_task)
    problems = [
        "",
        "",
        "",
        "bad_record",
        "duplicate_key",
        "near_duplicate: x, 2 bits apart",
        "frequent_caption: y",
    ]
    units = [
        [(f"key {key}", chance.choice(problems)) for key in chance.sample(range(60), chance.randrange(25))]
        for _ in range(9)
    ]
    layout = Layout(str(tmp_path))
    indexed(layout, units)
    monkeypatch.setattr(repeated_keys, "KEYS_A_TASK", keys_a_task)
    found = repeated_keys.rows_to_mark(layout, [len(u) for u in units], list("abcdefghi"), runner().map)
    found = list(found)
    assert [unit for unit, _ in found] == sorted({unit for unit, _ in found})
    assert {unit: rows.tolist() for unit, rows in found} == slow_twin(units)


def test_what_other_indices_left_is_not_taken_for_ours(tmp_path):
    """A unit that was indexed anew between two tries has other rows."""
    layout = Layout(str(tmp_path))
    indexed(layout, [[("a", ""), ("b", "")], [("b", ""), ("c", "")]])
    assert len(list(repeated_keys.rows_to_mark(layout, [2, 2], ["1", "2"], map))) == 1
    indexed(layout, [[("a", ""), ("b", "")], [("c", ""), ("d", "")]])
    assert not list(repeated_keys.rows_to_mark(layout, [2, 2], ["1", "3"], map))


@pytest.fixture
def source(tmp_path) -> SourceSettings:
    """Four parquet files of four samples; every file repeats two keys of the one before."""
    for number in range(4):
        keys = [2 * number + i for i in range(4)]
        words = [f"a {worlds.WORDS[k % 3]} {worlds.THINGS[k % 3]} on a table" for k in keys]
        images = [pictures.encode(pictures.photo(40, 30, seed=10 * number + k)) for k in keys]
        table = {"key": [f"k{k}" for k in keys], "image": images, "caption": words}
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet")
    return SourceSettings(kind="parquet", urls=[str(tmp_path / f"{n}.parquet") for n in range(4)])


def test_a_build_marks_what_an_earlier_unit_has_and_goes_on_after_any_stop(tmp_path, source, monkeypatch):
    monkeypatch.setattr(repeated_keys, "KEYS_A_TASK", 5)
    settings = worlds.settings(tmp_path / "whole", source, reject_budget=1.0)
    summary = build(settings, OtherOrder())
    assert summary["rejects_by_reason"] == {"duplicate_key": 6}
    rejects = pq.read_table(tmp_path / "whole" / "rejects.parquet").to_pydict()
    assert rejects["source_key"] == ["k2", "k3", "k4", "k5", "k6", "k7"]
    before = {p: worlds.hashes(tmp_path / "whole", p) for p in ("shards/*", "plan/index/*", "*.parquet")}
    settings = worlds.settings(tmp_path / "again", source, reject_budget=1.0)
    for at in ("scatter", "find", "gather", "_mark_one"):
        with pytest.raises(KeyboardInterrupt):
            make_plan(settings, sources.load(source), Layout(settings.out), Cut(at).map)
        assert storage.listing(Layout(settings.out).keys)
    make_plan(settings, sources.load(source), Layout(settings.out), LocalRunner().map)
    assert not storage.listing(Layout(settings.out).keys)
    build(settings, LocalRunner())
    assert {p: worlds.hashes(tmp_path / "again", p) for p in before} == before
    # an index that is lost is made anew, with the same rows marked
    Path(Layout(settings.out).unit_index(2)).unlink()
    Path(sorted((tmp_path / "again" / "manifest").glob("*"))[2]).unlink()
    build(settings, LocalRunner())
    assert list(verify(settings.out)) == []
    assert {p: worlds.hashes(tmp_path / "again", p) for p in before} == before


def test_an_index_heals_though_the_key_it_repeats_was_left_out_later(tmp_path):
    """The first sample of a key goes as a duplicate of another image after keys were compared: its key still counts."""
    same, other, third = (pictures.encode(pictures.photo(40, 30, seed=seed)) for seed in (1, 2, 3))
    for name, keys, images in (
        ("0", ["a", "b"], [same, same]),
        ("1", ["b", "c"], [other, third]),
    ):
        table = {"key": keys, "image": images, "caption": ["a red ball on a table", "a red ball"]}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    source = SourceSettings(kind="parquet", urls=[str(tmp_path / f"{n}.parquet") for n in "01"])
    duplicates = DuplicateSettings(images="bytes")
    settings = worlds.settings(tmp_path / "out", source, reject_budget=1.0, duplicates=duplicates)
    assert build(settings, LocalRunner())["rejects_by_reason"] == {"duplicate_image": 1, "duplicate_key": 1}
    Path(Layout(settings.out).unit_index(1)).unlink()
    Path(sorted((tmp_path / "out" / "manifest").glob("*"))[1]).unlink()
    build(settings, LocalRunner())
    assert list(verify(settings.out)) == []
