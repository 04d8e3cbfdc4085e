"""Parquet tables of foreign makers: columns of any type, images as bytes or paths, damage by the rows it cost."""

from __future__ import annotations

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import storage
from pipeline.images import BadSample
from pipeline.sources import InputChanged
from pipeline.sources import parquet as module
from pipeline.sources.settings import ColumnSettings
from tests.pipeline.sources.kit import n_lost, outcome, rows, tables, usable

CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(file, row_group_size=None, **columns):
    pq.write_table(pa.table(columns), file, row_group_size=row_group_size)
    return file


def captions_of_column(tmp_path, values, kind=None):
    n = len(values)
    path = write(tmp_path / "a.parquet", image=[b"x"] * n, caption=pa.array(values, kind))
    return [captions for _, captions in outcome(tables(path)).values()]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["a dog", None, ""], pa.string(), [["a dog"], [], []]),
        ([b"a dog", b"\xff"], pa.binary(), [["a dog"], ["\ufffd"]]),
        ([b"a dog", b"\xef\xbb\xbfa"], pa.large_binary(), [["a dog"], ["a"]]),
        ([["a", "b"], [], None], pa.list_(pa.string()), [["a", "b"], [], []]),
        ([[["a"], ["b"]]], pa.list_(pa.list_(pa.string())), [["a", "b"]]),
        ([1984, None], pa.int64(), [["1984"], []]),
        ([1.5, float("nan")], pa.float64(), [["1.5"], []]),
        ([True, False], pa.bool_(), [[], []]),
        ([None, None], pa.null(), [[], []]),
        ([{"en": "a", "fr": "b", "n": 3}], None, [["a", "b"]]),
        ([[("en", "a"), ("fr", "b")]], pa.map_(pa.string(), pa.string()), [["a", "b"]]),
        (["a", "b", "a"], pa.dictionary(pa.int32(), pa.string()), [["a"], ["b"], ["a"]]),
        (["a"], pa.large_string(), [["a"]]),
        ([10**18 + 1], pa.timestamp("ns"), None),
    ],
)
def test_captions_of_any_column_type(tmp_path, values, kind, expected):
    found = captions_of_column(tmp_path, values, kind)
    assert expected is None or found == expected


def test_text_that_is_no_utf8_costs_letters(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 3, 8], pa.int32()).buffers()[1], pa.py_buffer(b"a\xe9ba dog")]
    )
    lists = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), broken)
    write(tmp_path / "a.parquet", image=[b"x"] * 2, caption=broken)
    write(tmp_path / "b.parquet", image=[b"x"], caption=lists)
    found = [captions for _, captions in outcome(tables(tmp_path / "*.parquet")).values()]
    assert found == [["a\ufffdb"], ["a dog"], ["a\ufffdb", "a dog"]]


def test_bytes_win_over_paths_and_paths_serve_where_there_are_none(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(b"file %d" % i)
    words = ["a dog"] * 4
    write(
        tmp_path / "a.parquet", caption=words, path=[f"elsewhere/{i}.jpg" for i in range(4)],
        image=[{"bytes": b"cell %d" % i, "path": f"{i}.jpg"} for i in range(4)],
    )  # fmt: skip
    absolute = pa.array([{"bytes": None, "path": str(tmp_path / f"{i}.jpg")} for i in range(4)], CELL)
    write(tmp_path / "b.parquet", caption=words, image=absolute)
    write(tmp_path / "c.parquet", caption=words, image=[f"{i}.jpg" for i in range(4)])
    write(tmp_path / "d.parquet", caption=words, path=[f"./{i}.jpg" for i in range(4)])
    write(
        tmp_path / "e.parquet", caption=words, path=[f"{i}.jpg" for i in range(4)],
        image=pa.array([b"own", None, None, b""], pa.binary()),
    )  # fmt: skip
    found = usable(tables(tmp_path / "*.parquet"))
    assert [found[f"a.parquet:{i}"] for i in range(4)] == [b"cell %d" % i for i in range(4)]
    for name in "bcd":
        assert [found[f"{name}.parquet:{i}"] for i in range(4)] == [b"file %d" % i for i in range(4)]
    assert [found[f"e.parquet:{i}"] for i in range(4)] == [b"own", b"file 1", b"file 2", b""]


@pytest.mark.parametrize(
    "path",
    ["../secret.jpg", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x", "simplecache::http://127.0.0.1:1/x",
     "zip://x::http://127.0.0.1:1/a.zip", "s3://other/x.jpg", "gone.jpg", "", "x\0y", "images/../../secret.jpg"],
)  # fmt: skip
def test_paths_stay_below_the_folder(tmp_path, path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "tables"
    (folder / "images").mkdir(parents=True)
    source = tables(write(folder / "a.parquet", path=[path], caption=["a dog"]))
    (row,) = rows(source)
    with pytest.raises(BadSample) as e:
        source.read(row)
    assert e.value.reason in ("outside_root", "missing_file", "bad_path", "no_image")


def test_forms_of_paths_below_the_images(tmp_path):
    images = tmp_path / "images"
    (images / "train").mkdir(parents=True)
    names = ["plain.jpg", "re::zero.jpg", "a b.jpg", "50%20.jpg", "train/w.jpg", "x?y#z.jpg", "[1].jpg"]
    for name in names:
        (images / name).write_bytes(name.encode())
    paths = ["plain.jpg", "re::zero.jpg", (images / "a b.jpg").as_uri(), (images / "50%20.jpg").as_uri(),
             "train\\w.jpg", "x?y#z.jpg", str(images / "[1].jpg")]  # fmt: skip
    source = tables(write(tmp_path / "a.parquet", path=paths, caption=["a dog"] * 7), images=str(images))
    assert list(usable(source).values()) == [name.encode() for name in names]


def test_a_signed_path_leaves_no_secret_in_a_row(tmp_path):
    path = write(tmp_path / "a.parquet", path=["cat.jpg?X-Amz-Signature=SECRETSIG"], caption=["a cat"])
    source = tables(path)
    (row,) = rows(source)
    with pytest.raises(BadSample) as e:
        source.read(row)
    assert "SECRETSIG" not in str(row)
    assert "SECRETSIG" not in str(e.value)


@pytest.mark.parametrize(
    ("image", "detail"),
    [
        (pa.array([None], pa.binary()), "is null"),
        (pa.array([17]), "type int"),
        (pa.array([[b"a", b"b"]]), "type list"),
        (pa.array([{"width": 3}]), "struct of width"),
        (pa.array([None], pa.null()), "is null"),
    ],
)
def test_an_image_cell_of_another_type_costs_its_sample(tmp_path, image, detail):
    source = tables(write(tmp_path / "a.parquet", image=image, caption=["a dog"]))
    with pytest.raises(BadSample, match=f"no_image: .*{detail}"):
        source.read(rows(source)[0])


def test_keys_of_any_type_and_files_of_one_name(tmp_path):
    for folder, keys in (("one", [1, 2, None]), ("two", ["2", "", "x\0"])):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "0.parquet", key=keys, image=[b"x"] * 3, caption=["a"] * 3)
        write(tmp_path / folder / "1.parquet", image=[b"x"], caption=["a"])
    source = tables(tmp_path / "one" / "*.parquet", tmp_path / "two" / "*.parquet")
    keys = [r["source_key"] for r in rows(source)]
    assert keys == [
        "1",
        "2",
        "one/0.parquet:2",
        "one/1.parquet:0",
        "2",
        "two/0.parquet:1",
        "x",
        "two/1.parquet:0",
    ]
    assert not source.unique_keys


def test_upper_case_names_and_a_chosen_column(tmp_path):
    path = write(tmp_path / "a.parquet", image=[b"x"], TEXT=["a dog"], caption=["a pet"], title=["Dog"])
    assert outcome(tables(path))["a.parquet:0"][1] == ["a pet", "a dog"]
    assert outcome(tables(path, columns=ColumnSettings(caption="title")))["a.parquet:0"][1] == ["Dog"]
    with pytest.raises(ValueError, match=r"a\.parquet has the columns .*; needed: other"):
        rows(tables(path, columns=ColumnSettings(caption="other")))


def test_a_folder_of_parts_is_read(tmp_path):
    folder = tmp_path / "a.parquet"
    folder.mkdir()
    write(folder / "part-0.parquet", image=[b"x"], caption=["a dog"])
    for name in ("_SUCCESS", ".part-0.parquet.crc", "._part-0.parquet", "_metadata"):
        (folder / name).write_bytes(b"x")
    assert list(usable(tables(folder))) == ["a.parquet/part-0.parquet:0"]


def test_row_groups_of_one_row_are_read_in_a_time_of_the_same_order(tmp_path):
    n = 1500
    columns = {"image": [b"%d" % i * 100 for i in range(n)], "caption": ["a dog"] * n}
    seconds = {}
    for size in (1, 100):
        source = tables(write(tmp_path / f"{size}.parquet", size, **columns))
        listed = rows(source)
        started = time.perf_counter()
        assert [source.read(r) for r in listed[:: max(1, 5)]] == columns["image"][::5]
        seconds[size] = time.perf_counter() - started
    assert seconds[1] < max(3.0, 100 * seconds[100])


def test_large_files_are_cut_into_units_of_whole_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGE_FILE", 10)
    monkeypatch.setattr(module, "UNIT_ROWS", 5)
    source = tables(write(tmp_path / "a.parquet", 2, image=[b"x"] * 11, caption=["a"] * 11))
    assert [(u.start, u.stop) for u in source.units()] == [(0, 6), (6, 11)]
    assert [r["row"] for r in rows(source)] == list(range(11))


def test_a_damaged_file_counts_by_its_neighbours_and_damaged_pages_by_their_rows(tmp_path):
    for n in range(3):
        columns = {
            "image": [b"%d" % i * 500 for i in range(40)],
            "caption": [f"a dog {i} " * 9 for i in range(40)],
        }
        pq.write_table(pa.table(columns), tmp_path / f"{n}.parquet", row_group_size=10, compression="zstd")
    path = tmp_path / "1.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    source = tables(tmp_path / "*.parquet")
    assert len(usable(source)) == 80
    assert 30 <= n_lost(source) <= 50
    chunk = pq.ParquetFile(tmp_path / "0.parquet").metadata.row_group(2).column(1)
    at = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(whole)
    data[at + 20 : at + chunk.total_compressed_size] = bytes(chunk.total_compressed_size - 20)
    path.write_bytes(data)
    found = [r for r in rows(tables(path)) if r["problem"]]
    assert [(r["source_key"], r["n_samples"]) for r in found] == [("1.parquet:20", 10)]
    assert found[0]["problem"].startswith("damaged_parquet: ")
    (path).write_bytes(b"")
    assert rows(tables(path))[0]["problem"].startswith("damaged_parquet")


def test_damaged_images_are_rejects_and_failures_to_read_are_not(tmp_path, monkeypatch):
    images = [b"%d" % i * 500 for i in range(40)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"image": images, "caption": ["a"] * 40}), path, 10, compression="zstd", use_dictionary=False
    )
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + 25 : chunk.data_page_offset + chunk.total_compressed_size] = b"\x11" * (
        chunk.total_compressed_size - 25
    )
    path.write_bytes(data)
    source = tables(path)
    listed = rows(source)
    assert source.read(listed[5]) == images[5]
    with pytest.raises(BadSample, match="damaged_parquet"):
        source.read(listed[15])
    assert source.read(listed[25]) == images[25]

    honest = storage.open_read

    class Failing:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def read(self, n=-1):
            if self._file.tell() < chunk.data_page_offset:
                raise OSError("503 Slow Down")
            return self._file.read(n)

    monkeypatch.setattr(storage, "open_read", lambda url: Failing(honest(url)))
    again = tables(path)
    with pytest.raises(OSError, match="503"):
        again.read(listed[5])
    with pytest.raises(OSError, match="503"):
        rows(again)


def test_a_replaced_file_gives_its_own_images(tmp_path):
    path = write(tmp_path / "a.parquet", image=[b"OLD0", b"OLD1"], caption=["old"] * 2)
    source = tables(path)
    (unit,) = source.units()
    assert usable(source)["a.parquet:0"] == b"OLD0"
    write(path, image=[b"NEW0", b"NEW1 longer"], caption=["new"] * 2)
    assert usable(tables(path))["a.parquet:0"] == b"NEW0"
    with pytest.raises(InputChanged):
        list(source.index(unit))


def test_images_that_paths_name_are_part_of_the_identity(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"one")
    path = write(tmp_path / "a.parquet", path=["0.jpg"], caption=["a dog"])
    own = write(tmp_path / "b.parquet", image=[{"bytes": b"x", "path": "0.jpg"}], caption=["a dog"])
    before, alone = tables(path).identity(), tables(own).identity()
    (tmp_path / "0.jpg").write_bytes(b"longer")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert tables(path).identity() != before
    assert tables(own).identity() == alone
