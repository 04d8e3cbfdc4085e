"""Captions of all kinds of files; units that cover each caption once."""

import gzip
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_pool.captions import CaptionSettings, Unit, blocks, read_unit, units


def read_all(source, **options):
    return [image for unit in units(source, **options) for image in read_unit(source, unit)]


def test_coco(tmp_path):
    content = {
        "images": [{"id": 7}, {"id": 2}, {"id": 9}],
        "annotations": [
            {"image_id": 7, "caption": "a dog"},
            {"image_id": 2, "caption": "a cat"},
            {"image_id": 7, "caption": "a big dog"},
        ],
    }
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    source = CaptionSettings("coco", str(path), block_images=2)
    assert len(units(source)) == 2
    assert read_all(source) == [("2", ["a cat"]), ("7", ["a dog", "a big dog"]), ("9", [])]


@pytest.mark.parametrize("content", ["{}", "[1]", '{"annotations": [{"image_id": 1}]}', "no json"])
def test_files_that_are_not_coco(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"captions\.json"):
        read_all(CaptionSettings("coco", str(path)))


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_webdataset(tmp_path):
    members = [
        ("00/a.jpg", b"\xff\xd8"), ("00/a.json", b'{"caption": "a dog", "url": "u"}'), ("00/a.txt", b"not this"),
        ("00/b.jpg", b"\xff\xd8"), ("00/b.txt", "a café\nsecond\n".encode()),
        ("00/c.json", b'{"captions": ["one", "", "two"]}'), ("00/c.png", b"x"),
        ("00/d.json", b"broken"), ("00/d.txt", b"a bus"),
        ("00/e.jpg", b"x"),
    ]  # fmt: skip
    write_tar(tmp_path / "0.tar", members)
    write_tar(tmp_path / "1.tar", [("f.txt", b"a boat")])
    source = CaptionSettings("webdataset", str(tmp_path / "*.tar"))
    assert read_all(source) == [
        ("00/a", ["a dog"]), ("00/b", ["a café", "second"]), ("00/c", ["one", "two"]),
        ("00/d", ["a bus"]), ("00/e", []), ("f", ["a boat"]),
    ]  # fmt: skip


def test_parquet(tmp_path):
    table = pa.table({"url": ["u1", "u2", "u3"], "text": ["a dog", None, "a cat"], "key": ["k1", "k2", "k3"]})
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=2)
    lists = pa.table({"text": [["a bus", "a red bus"], []]})
    pq.write_table(lists, tmp_path / "1.parquet")
    source = CaptionSettings("parquet", f"{tmp_path}/0.parquet, {tmp_path}/1.parquet", caption_column="text")
    assert len(units(source)) == 3
    assert read_all(source) == [
        ("k1", ["a dog"]), ("k2", []), ("k3", ["a cat"]), ("1.parquet:0:0", ["a bus", "a red bus"]), ("1.parquet:0:1", []),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no column 'caption'"):
        read_all(CaptionSettings("parquet", str(tmp_path / "0.parquet")))


def test_tsv(tmp_path):
    path = tmp_path / "cc3m.tsv"
    path.write_bytes(
        b'a dog\thttp://a/1.jpg\r\n"a ""big"" cat"\thttp://a/2.jpg\n"go" sign\tu\n\n\tu\nno url\n'
    )
    captions = [captions for _, captions in read_all(CaptionSettings("tsv", str(path)))]
    assert captions == [["a dog"], ['a "big" cat'], ['"go" sign'], ["no url"]]


def test_compressed_text(tmp_path):
    path = tmp_path / "captions.txt.gz"
    path.write_bytes(gzip.compress(b"a dog\na cat\n"))
    assert [captions for _, captions in read_all(CaptionSettings("text", str(path)))] == [
        ["a dog"],
        ["a cat"],
    ]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)),
    st.integers(1, 20),
)
def test_byte_ranges_cover_each_line_once(tmp_path_factory, lines, unit_bytes):
    path = tmp_path_factory.mktemp("text") / "captions.txt"
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    found = [
        captions[0] for _, captions in read_all(CaptionSettings("text", str(path)), unit_bytes=unit_bytes)
    ]
    assert found == [line.strip() for line in path.read_bytes().decode().split("\n") if line.strip()]


def test_blocks(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("".join(f"caption {i}\n" for i in range(7)))
    source = CaptionSettings("text", str(path), block_images=3)
    assert [len(block) for block in blocks(source, Unit(str(path)))] == [3, 3, 1]


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        units(CaptionSettings("text", str(tmp_path / "nowhere*.txt")))
    with pytest.raises(ValueError, match="names no file"):
        units(CaptionSettings("text", ""))
    with pytest.raises(ValueError, match=r"source\.kind"):
        CaptionSettings("csv", "x")
