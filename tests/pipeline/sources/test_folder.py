"""Folders of images: captions beside them, Hugging Face's imagefolder, tables of file names; img2dataset's three forms."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import sources
from pipeline.sources import SourceSettings
from pipeline.sources import folder as module
from pipeline.sources.settings import ColumnSettings
from tests.pipeline.sources.kit import outcome, rows, tables, tars, usable, write_tar

EXPECTED = {f"{i // 2:05d}/{i:06d}.jpg": ("", [f"a dog {i}"]) for i in range(5)}


def folder(root: Path, captions: Path | None = None, **settings):
    return sources.load(SourceSettings("folder", str(root), str(captions) if captions else None, **settings))


def images(root: Path) -> Path:
    for name in EXPECTED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(f"jpeg {int(name[-10:-4])}".encode())
    return root


def beside(root: Path) -> Path:
    images(root)
    for i, name in enumerate(EXPECTED):
        path = root / name
        if i % 2:
            path.with_suffix(".json").write_text(json.dumps({"caption": f"a dog {i}", "url": "x"}))
        else:
            path.with_suffix(".txt").write_text(f"a dog {i}\n")
    return root


def write_table(path: Path, records: list[dict], header: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, records)) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
            if header:
                writer.writeheader()
            writer.writerows(records)
    return path


RECORDS = [{"file_name": name, "text": captions[0]} for name, (_, captions) in EXPECTED.items()]


def test_captions_lie_beside_the_images(tmp_path):
    source = folder(beside(tmp_path))
    assert outcome(source) == EXPECTED
    assert usable(source) == {name: f"jpeg {i}".encode() for i, name in enumerate(EXPECTED)}
    assert [u.location for u in source.units()] == ["00000/", "00001/", "00002/"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_imagefolder_of_hugging_face_has_its_table_in_the_folder(tmp_path, suffix):
    images(tmp_path)
    for part in ("00000", "00001", "00002"):  # one in each folder, names relative to it
        own = [{**r, "file_name": r["file_name"][6:]} for r in RECORDS if r["file_name"].startswith(part)]
        write_table(tmp_path / part / f"metadata{suffix}", own)
    assert outcome(folder(tmp_path)) == EXPECTED


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("header", [True, False])
def test_a_table_of_file_names_may_lie_anywhere(tmp_path, suffix, header):
    if not header and suffix in (".jsonl", ".parquet"):
        pytest.skip("these name their fields")
    table = write_table(tmp_path / "tables" / f"all{suffix}", RECORDS, header)
    assert outcome(folder(images(tmp_path / "images"), table)) == EXPECTED


def test_several_rows_of_an_image_are_one_sample(tmp_path):
    records = [{"image_path": r["file_name"], "caption": f"{r['text']}, {n}"} for r in RECORDS for n in "ab"]
    source = folder(images(tmp_path / "images"), write_table(tmp_path / "a.csv", records))
    expected = {name: ("", [f"{c[0]}, a", f"{c[0]}, b"]) for name, (_, c) in EXPECTED.items()}
    assert outcome(source) == expected


def test_columns_may_be_named(tmp_path):
    records = [{"id": i, "photo": r["file_name"], "title": r["text"]} for i, r in enumerate(RECORDS)]
    columns = ColumnSettings(path="photo", caption="title", key="id")
    table = write_table(tmp_path / "a.csv", records)
    source = folder(images(tmp_path / "images"), table, columns=columns)
    assert outcome(source) == {str(i): ("", [f"a dog {i}"]) for i in range(5)}
    with pytest.raises(ValueError, match="needed: file_name or path"):
        rows(folder(tmp_path / "images", table))


def test_what_is_wrong_costs_its_own_sample(tmp_path):
    beside(tmp_path / "images")
    (tmp_path / "images/00000/000000.txt").write_text(" \n")
    (tmp_path / "images/00000/000001.json").write_text("{")
    (tmp_path / "images/00001/000002.txt").unlink()
    (tmp_path / "images/00001/.hidden.jpg").write_bytes(b"")
    assert [problem for problem, _ in outcome(folder(tmp_path / "images")).values()] == [
        "empty_caption", "bad_json", "no_caption", "", "",
    ]  # fmt: skip
    lines = [
        json.dumps(RECORDS[0]), "{", "[]", json.dumps({"file_name": "../../etc/passwd", "text": "a"}),
        json.dumps({"file_name": "nowhere.jpg", "text": "a"}), json.dumps({"text": "a"}),
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = outcome(folder(tmp_path / "images", tmp_path / "a.jsonl"))
    assert sorted(problem for problem, _ in found.values()) == [
        "", "bad_path", "bad_record", "bad_record", "missing_file", "outside_root",
    ]  # fmt: skip


def test_large_folders_and_tables_are_cut_into_units(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "UNIT_IMAGES", 1)
    assert len(folder(beside(tmp_path / "a")).units()) == 5
    assert outcome(folder(tmp_path / "a")) == EXPECTED
    source = folder(images(tmp_path / "b"), write_table(tmp_path / "b.csv", RECORDS))
    assert len(source.units()) == 5
    assert outcome(source) == EXPECTED


def test_another_input_is_another_identity_and_a_moved_one_is_not(tmp_path):
    first = folder(beside(tmp_path / "a")).identity()
    assert folder(beside(tmp_path / "b")).identity() == first
    (tmp_path / "b/00000/000000.txt").write_text("a long caption")
    assert folder(tmp_path / "b").identity() != first
    table = write_table(tmp_path / "t.csv", RECORDS)
    second = folder(tmp_path / "a", table).identity()
    write_table(table, [{**r, "text": "a cat 0"} for r in RECORDS])
    assert folder(tmp_path / "a", table).identity() != second


def test_settings_say_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"source\.images"):
        SourceSettings("folder")
    with pytest.raises(ValueError, match=r"source\.urls"):
        SourceSettings("folder", str(tmp_path), urls=["x"])
    with pytest.raises(FileNotFoundError, match="holds no images"):
        folder(tmp_path).units()


def test_the_three_forms_of_img2dataset_hold_the_same_samples(tmp_path):
    """As img2dataset lays them out; a download that failed has a row in the parquet file alone, without an image."""
    members, records = [], []
    for i in range(5):
        key, meta = (
            f"{i:09d}",
            {"caption": f"a dog {i}", "url": f"https://example.com/{i}", "key": f"{i:09d}"},
        )
        content = {
            "jpg": f"jpeg {i}".encode(),
            "txt": f"a dog {i}".encode(),
            "json": json.dumps(meta).encode(),
        }
        members += [(f"{key}.{ext}", data) for ext, data in content.items()]
        (tmp_path / "files/00000").mkdir(parents=True, exist_ok=True)
        for ext, data in content.items():
            (tmp_path / f"files/00000/{key}.{ext}").write_bytes(data)
        records.append({**meta, "status": "success", "jpg": content["jpg"]})
    (tmp_path / "files/00000_stats.json").write_text("{}")
    pq.write_table(
        pa.Table.from_pylist(records), tmp_path / "files/00000.parquet"
    )  # the metadata beside the folder
    pq.write_table(
        pa.Table.from_pylist([*records, {"caption": "a cat", "key": "9", "status": "failed", "jpg": None}]),
        tmp_path / "00000.parquet",
    )
    found = [
        {
            key.rsplit("/", 1)[-1].removesuffix(".jpg"): (outcome(source)[key][1], data)
            for key, data in usable(source).items()
        }
        for source in (
            tars(write_tar(tmp_path / "00000.tar", members)),
            folder(tmp_path / "files"),
        )
    ]
    table = tables(tmp_path / "00000.parquet")
    read = {r["source_key"]: r for r in rows(table)}
    assert read.pop("9")["captions"] == ["a cat"]  # its image is null: `no_image` when it is read
    found.append({key: (row["captions"], table.read(row)) for key, row in read.items()})
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5
