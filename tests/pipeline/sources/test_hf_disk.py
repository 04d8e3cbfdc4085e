"""Datasets that Hugging Face's `save_to_disk` wrote, read without that library."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import Image

from pipeline import sources
from pipeline.images import BadSample
from pipeline.sources import SourceSettings
from pipeline.sources.arrow_files import ArrowTable
from tests.pipeline.sources.kit import n_lost, rows, usable


def saved(*urls: Path | str, **settings: Any) -> sources.Source:
    return sources.load(SourceSettings("hf_disk", urls=[str(u) for u in urls], **settings))


def png(number: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()


def made(first: int, n: int) -> datasets.Dataset:
    numbers = range(first, first + n)
    found = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": png(i), "path": None} for i in numbers],
            "text": [f"a dog {i}" for i in numbers],
            "label": [("cat", "dog")[i % 2] for i in numbers],
        }
    )
    return found.cast_column("image", datasets.Image()).class_encode_column("label")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    datasets.disable_progress_bars()
    root = tmp_path_factory.mktemp("saved")
    made(0, 7).shuffle(seed=1).save_to_disk(root / "one", num_shards=3)
    datasets.DatasetDict({"train": made(0, 4), "test": made(4, 2)}).save_to_disk(root / "splits")
    return root


def test_a_saved_dataset_gives_the_rows_and_bytes_that_the_library_gives(folder):
    source = saved(folder / "one", extra=["label"])
    units = source.units()
    assert [u.location for u in units] == [f"data-0000{i}-of-00003.arrow" for i in range(3)]
    found = rows(source)
    wanted = datasets.load_from_disk(str(folder / "one")).cast_column("image", datasets.Image(decode=False))
    assert [r["captions"] for r in found] == [[row["text"]] for row in wanted]
    assert [json.loads(r["extra"])["label"] for r in found] == wanted["label"]
    assert [source.read(r) for r in found] == [row["image"]["bytes"] for row in wanted]
    backwards = [source.read(r) for r in found[::-1]]
    assert backwards[::-1] == [source.read(r) for r in found]


def test_the_splits_of_a_dict_come_in_its_order(folder):
    source = saved(folder / "splits")
    assert [(r["source_key"], r["captions"]) for r in rows(source)] == [
        *((f"train/data-00000-of-00001.arrow:{i}", [f"a dog {i}"]) for i in range(4)),
        *((f"test/data-00000-of-00001.arrow:{i}", [f"a dog {i + 4}"]) for i in range(2)),
    ]
    assert len(usable(saved(folder / "splits" / "test"))) == 2


def write(folder: Path, table: pa.Table, batch: int = 2, name: str = "data-00000-of-00001.arrow") -> Path:
    """The layout of `save_to_disk`, in batches of so many rows."""
    folder.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder / name


def test_columns_by_name_and_images_by_path(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / f"pictures/{i}.png").write_bytes(png(i))
    table = pa.table(
        {
            "photo": [f"{i}.png" for i in range(3)],
            "alt": pa.array(["a cat", "a dog", "a cat"]).dictionary_encode(),
            "id": [7, 8, 9],
        }
    )
    write(tmp_path / "saved", table)
    columns = sources.settings.ColumnSettings(image="photo", caption="alt", key="id")
    source = saved(tmp_path / "saved", columns=columns, images=str(tmp_path / "pictures"))
    assert usable(source) == {"7": png(0), "8": png(1), "9": png(2)}
    assert [r["captions"] for r in rows(source)] == [["a cat"], ["a dog"], ["a cat"]]
    before = source.identity()
    (tmp_path / "pictures/1.png").write_bytes(b"another size")
    again = saved(tmp_path / "saved", columns=columns, images=str(tmp_path / "pictures"))
    assert again.identity() != before


def images(n: int) -> pa.Table:
    cells = [{"bytes": png(i) if i != 1 else None, "path": None} for i in range(n)]
    return pa.table({"image": cells, "caption": [f"a dog {i}" for i in range(n)]})


def test_batches_are_found_by_headers_and_a_file_with_magic_is_read_too(tmp_path):
    path = write(tmp_path / "stream", images(5))
    with (
        pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file,
        pa.ipc.new_file(file, images(5).schema) as writer,
    ):
        writer.write_table(images(5), max_chunksize=2)
    for url in (path, tmp_path / "file.arrow"):
        with ArrowTable(str(url)) as table:
            assert table.starts == [0, 2, 4, 5]
            assert not table.cut_short
            assert [table.group_of(row) for row in range(5)] == [0, 0, 1, 1, 2]
            assert table.read_group(1, ["caption"]).to_pydict() == {"caption": ["a dog 2", "a dog 3"]}
            assert table.has_values("image.bytes")
            assert not table.has_values("image.path")
            assert table.read_group(2, ["image.path"]).column_names == ["image"]
    source = saved(tmp_path / "file.arrow")
    with pytest.raises(BadSample, match="no_image"):
        source.read(rows(source)[1])


def test_a_file_that_is_cut_short_keeps_its_whole_batches_and_counts_the_rest(tmp_path):
    whole = write(tmp_path / "a", images(40)).read_bytes()
    for name in ("1", "2"):
        (tmp_path / "a" / f"{name}.arrow").write_bytes(whole)
    names = ["data-00000-of-00001.arrow", "1.arrow", "2.arrow"]
    (tmp_path / "a/state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    (tmp_path / "a/1.arrow").write_bytes(whole[: len(whole) // 2])
    source = saved(tmp_path / "a")
    found = rows(source)
    assert [r["problem"] for r in found if r["problem"]] == ["damaged_arrow: the file is cut short"]
    kept = sum(not r["problem"] for r in found)
    assert 90 <= kept <= 100
    assert kept + n_lost(source) == 120
    (tmp_path / "a/1.arrow").write_bytes(b"no arrow at all" * 500)
    lost = [r for r in rows(source) if r["problem"]]
    assert [(r["problem"].partition(":")[0], r["location"]) for r in lost] == [("damaged_arrow", "1.arrow")]


def test_of_the_only_file_what_it_lacks_is_counted_by_the_record_beside_it(tmp_path):
    path = write(tmp_path / "a", images(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    splits = {name: {"name": name, "num_examples": n} for name, n in (("train", 40), ("test", 7))}
    (tmp_path / "a/dataset_info.json").write_text(
        json.dumps({"splits": splits})
    )  # every split's folder lists all
    state = json.loads((tmp_path / "a/state.json").read_text())
    (tmp_path / "a/state.json").write_text(json.dumps(state | {"_split": "train"}))
    source = saved(tmp_path / "a")
    kept = sum(not r["problem"] for r in rows(source))
    assert 10 < kept < 30
    assert kept + n_lost(source) == 40


@pytest.mark.parametrize("n_rows", [10**4, 4 * 10**9, 2**62, 2**63 - 6])
def test_a_batch_that_says_it_has_more_rows_than_bytes_is_damage(tmp_path, n_rows):
    path = write(tmp_path / "a", images(6))
    with ArrowTable(str(path)) as table:
        second = table._batches[1]
    whole = path.read_bytes()
    header = whole[second.start : second.start + 200]
    at = second.start + header.index(struct.pack("<q", 2), 8)
    path.write_bytes(whole[:at] + struct.pack("<q", n_rows) + whole[at + 8 :])
    source = saved(tmp_path / "a")
    found = rows(source)
    assert [r["captions"] for r in found if not r["problem"]] == [["a dog 0"], ["a dog 1"]]
    assert 1 <= n_lost(source) < 100


@pytest.mark.parametrize(
    "splits", ["null", "[]", "{}", '{"splits": null}', '{"splits": "train"}', '{"splits": [3]}']
)
def test_a_record_of_splits_of_another_shape_is_refused_in_one_line(tmp_path, splits):
    write(tmp_path / "a", images(2))
    (tmp_path / "a/dataset_dict.json").write_text(splits)
    with pytest.raises(ValueError, match=r"dataset_dict\.json") as e:
        saved(tmp_path / "a").units()
    assert "\n" not in str(e.value)


def test_garbage_in_headers_never_breaks_the_reader(tmp_path):
    path = write(tmp_path / "a", images(6))
    whole = path.read_bytes()
    for at in range(0, min(len(whole), 3000), 29):
        path.write_bytes(whole[:at] + struct.pack("<I", 0x7FFFFFF1) + whole[at + 4 :])
        source = saved(tmp_path / "a")
        try:
            found = rows(source)
        except ValueError as e:
            if "needed:" not in str(e):  # the schema has other names now
                raise
            continue
        for row in found:
            if not row["problem"]:
                with contextlib.suppress(BadSample):
                    source.read(row)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "no state.json"),
        ("{", "damaged"),
        ("null", "damaged"),
        ("[]", "damaged"),
        ("3", "damaged"),
        ("{}", "no list `_data_files`"),
        (json.dumps({"_data_files": None}), "no list `_data_files`"),
        (json.dumps({"_data_files": [{"name": "a.arrow"}]}), "not in its folder"),
        (json.dumps({"_data_files": []}), "without a row"),
        (json.dumps({"_data_files": [{"filename": "../x.arrow"}]}), "not in its folder"),
        (json.dumps({"_data_files": [], "_indices_data_files": [{"filename": "i.arrow"}]}), "old version"),
    ],
)
def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path, state, message):
    write(tmp_path / "a", images(2))
    (tmp_path / "a/state.json").unlink()
    if state is not None:
        (tmp_path / "a/state.json").write_text(state)
    with pytest.raises(ValueError, match=message) as e:
        saved(tmp_path / "a").units()
    assert "\n" not in str(e.value)
