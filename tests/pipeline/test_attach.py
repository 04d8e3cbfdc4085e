from __future__ import annotations

import json
import random
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline import attach as attaching
from pipeline.attach import attach
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.verify import verify
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        folder = tmp_path_factory.mktemp("attach")
        settings = worlds.settings(folder / "d", worlds.coco_folder(folder / "source", n=20))
        build(settings, LocalRunner())
    return settings.out


def keys(dataset: str) -> list[str]:
    return [s.key for s in Dataset.open(dataset).samples()]


def file(path: Path, rows: list[dict]) -> str:
    random.Random(0).shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize("bucket", [1 << 20, 5])
def test_each_sample_gets_its_row_whatever_the_order_of_the_file(dataset, tmp_path, monkeypatch, bucket):
    monkeypatch.setattr(attaching, "BUCKET", bucket)  # one bucket, then one a part
    monkeypatch.setattr(attaching, "BATCH", 4)
    name = f"long-{bucket}"
    mine = keys(dataset)[:-2]
    rows = [{"key": k, "caption": f"long {k}", "negatives": [k[:2], k[2:4]]} for k in mine]
    found = attach(dataset, file(tmp_path / "f.parquet", rows), name)
    assert found.columns == ["caption", "negatives"]
    assert found.counts == {"n_rows": 18, "n_unknown": 0, "n_duplicates": 0, "n_attached": 18}
    for sample in Dataset.open(dataset).samples([name]):
        wanted = {"caption": f"long {sample.key}", "negatives": [sample.key[:2], sample.key[2:4]]}
        assert sample.columns == {name: wanted if sample.key in mine else {}}
    assert all(s.columns == {} for s in Dataset.open(dataset).samples())
    assert name in Dataset.open(dataset).attachments
    assert list(verify(dataset)) == []


def test_rows_of_regions_come_by_region(dataset, tmp_path):
    rows = [
        {"key": k, "region": r, "mask": bytes([r]), "score": r / 10} for k in keys(dataset) for r in (2, 0, 5)
    ]
    found = attach(dataset, file(tmp_path / "f.parquet", rows), "masks")
    assert found.by_region
    wanted = {r: {"mask": bytes([r]), "score": r / 10} for r in (0, 2, 5)}
    assert all(s.columns["masks"] == wanted for s in Dataset.open(dataset).samples(["masks"]))


def test_unknown_and_repeated_keys_are_counted_and_the_first_row_counts(dataset, tmp_path, capsys):
    first, second = keys(dataset)[:2]
    rows = [(first, 1), ("f" * 24, 2), (first, 3), (None, 4), ("é" * 30, 5), (second, 6), (first, 7)]
    table = pa.table({"key": [k for k, _ in rows], "n": [n for _, n in rows]})
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=2)
    assert main(["attach", dataset, "--parquet", str(tmp_path / "f.parquet"), "--name", "n"]) == 0
    assert "2 of 7 rows attached, 3 of no sample, 2 repeat a key" in capsys.readouterr().out
    found = {s.key: s.columns["n"] for s in Dataset.open(dataset).samples(["n"])}
    assert (found[first], found[second]) == ({"n": 1}, {"n": 6})


def test_another_file_under_the_same_name_is_refused_unless_it_shall_replace(dataset, tmp_path):
    some = keys(dataset)
    one = file(tmp_path / "1.parquet", [{"key": k, "v": 1} for k in some])
    two = file(tmp_path / "2.parquet", [{"key": some[0], "v": 2}])
    first = attach(dataset, one, "v")
    assert attach(dataset, one, "v") == first
    with pytest.raises(ValueError, match="other columns 'v'"):
        attach(dataset, two, "v")
    attach(dataset, two, "v", replace=True)
    assert [s.columns["v"] for s in Dataset.open(dataset).samples(["v"])] == [{"v": 2}] + [{}] * 19
    assert list(verify(dataset)) == []


def test_what_is_damaged_or_half_written_is_named(dataset, tmp_path):
    attach(dataset, file(tmp_path / "f.parquet", [{"key": k, "v": 1} for k in keys(dataset)]), "hurt")
    folder = Path(dataset, "columns", "hurt")
    parts = sorted(p for p in folder.glob("0*.parquet"))
    whole = parts[0].read_bytes()
    parts[0].write_bytes(whole[:-9])
    (folder / "999999-000000000000.parquet").write_bytes(b"")
    faults = list(verify(dataset))
    assert faults == [
        "foreign: columns/hurt/999999-000000000000",
        f"damaged: columns/hurt/{parts[0].name} is damaged: attach hurt again",
    ]
    with pytest.raises(ValueError, match="attach hurt again"):
        list(Dataset.open(dataset).samples(["hurt"]))
    (folder / "attachment.json").unlink()
    with pytest.raises(ValueError, match="no columns 'hurt', or only half of them"):
        list(Dataset.open(dataset).samples(["hurt"]))
    attach(dataset, str(tmp_path / "f.parquet"), "hurt")
    assert list(verify(dataset)) == []


def test_columns_of_another_dataset_are_refused(dataset, tmp_path):
    attach(dataset, file(tmp_path / "f.parquet", [{"key": k, "v": 1} for k in keys(dataset)]), "own")
    record = Path(dataset, "columns", "own", "attachment.json")
    whole = record.read_text()
    record.write_text(json.dumps({**json.loads(whole), "dataset": "another"}))
    with pytest.raises(ValueError, match="attached to another"):
        list(Dataset.open(dataset).samples(["own"]))
    record.write_text(whole)


@pytest.mark.parametrize(
    ("rows", "name", "said"),
    [
        ([{"id": "a", "v": 1}], "v2", "needs a column key"),
        ([{"key": "a"}], "v2", "besides key and region"),
        ([{"key": "a", "region": "x", "v": 1}], "v2", "whole number"),
        ([{"key": "a", "v": 1}], "../v", "name: must be"),
    ],
)
def test_what_cannot_be_attached_is_said(dataset, tmp_path, rows, name, said):
    with pytest.raises(ValueError, match=said):
        attach(dataset, file(tmp_path / "f.parquet", rows), name)


def test_columns_are_attached_to_a_remote_dataset(dataset, tmp_path):
    memory = fsspec.filesystem("memory")
    for path in Path(dataset).rglob("*"):
        if path.is_file() and "columns" not in path.parts:
            memory.pipe(f"/attached/{path.relative_to(dataset)}", path.read_bytes())
    attach(
        "memory://attached", file(tmp_path / "f.parquet", [{"key": k, "v": 1} for k in keys(dataset)]), "far"
    )
    assert all(s.columns["far"] == {"v": 1} for s in Dataset.open("memory://attached").samples(["far"]))
    assert list(verify("memory://attached")) == []
