"""Captions a line, by byte ranges that cover each line once."""

from __future__ import annotations

import bz2
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sources
from pipeline.sources import SourceSettings
from pipeline.sources import text as module
from tests.pipeline.sources.kit import rows


def load(path, kind="text"):
    return sources.load(SourceSettings(kind, urls=str(path)), captions_only=True)


def captions(source):
    return [row["captions"] for row in rows(source)]


def test_tsv(tmp_path):
    path = tmp_path / "cc3m.tsv"
    path.write_bytes(
        b'\xef\xbb\xbfa dog\thttp://a/1.jpg\r\n"a ""big"" cat"\thttp://a/2.jpg\n"go" sign\tu\n\n\tu\nno url\n'
    )
    assert captions(load(path, "tsv")) == [["a dog"], ['a "big" cat'], ['"go" sign'], ["no url"]]


@pytest.mark.parametrize(("name", "pack"), [("c.txt.gz", gzip.compress), ("c.txt.bz2", bz2.compress)])
def test_compressed_text(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(b"a dog\na cat\n"))
    assert captions(load(path)) == [["a dog"], ["a cat"]]
    path.write_bytes(pack(b"a dog\na cat\n" * 5000)[:-40])
    with pytest.raises(ValueError, match=r"cut short|damaged"):
        rows(load(path))


def test_a_name_is_no_proof_of_compression(tmp_path):
    (tmp_path / "c.gz").write_bytes(b"a dog\na cat\n")
    assert captions(load(tmp_path / "c.gz")) == [["a dog"], ["a cat"]]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]), max_size=12)),
    st.integers(1, 20),
)
def test_byte_ranges_cover_each_line_once(tmp_path_factory, lines, unit_bytes):
    path = tmp_path_factory.mktemp("text") / "captions.txt"
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    before = module.UNIT_BYTES
    module.UNIT_BYTES = unit_bytes
    try:
        found = [c for row in rows(load(path)) for c in row["captions"]]
    finally:
        module.UNIT_BYTES = before
    expected = (line.strip() for line in path.read_bytes().decode().split("\n"))
    assert found == [line for line in expected if any(c.isprintable() and not c.isspace() for c in line)]


def test_a_line_without_end_is_cut_and_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 100)
    path = tmp_path / "c.txt"
    path.write_bytes(b"a dog\n" + b"x" * 1000 + b"\na cat\n\xff\xfe\n")
    assert captions(load(path)) == [["a dog"], ["x" * 100], ["a cat"], ["\ufffd\ufffd"]]


def test_utf_16_is_refused_by_name(tmp_path):
    (tmp_path / "c.txt").write_text("a dog\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"c\.txt is in UTF-16"):
        rows(load(tmp_path / "c.txt"))


def test_they_have_no_images(tmp_path):
    (tmp_path / "c.txt").write_text("a dog\n")
    with pytest.raises(ValueError, match=r"source\.kind: text has captions alone"):
        sources.load(SourceSettings("text", urls=str(tmp_path / "c.txt")))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": "csv"}, "source.kind: 'csv' is not known"),
        ({"kind": "coco"}, "source.captions: kind coco needs"),
        ({"kind": "text"}, "source.urls: kind text needs"),
        ({"kind": "shapes", "captions": "x"}, "source.kind: shapes reads no files"),
        ({"kind": "text", "urls": "a", "captions": "b"}, "source.captions: is the same"),
        ({"limit": -1}, "source.limit"),
        ({"count": 0}, "source.count"), ({"size": 1}, "source.size"), ({"max_pixels": 0}, "source.max_pixels"),
    ],
)  # fmt: skip
def test_settings_check_themselves(values, says):
    with pytest.raises(ValueError, match=says.replace(".", r"\.")):
        SourceSettings(**values)


def test_captions_mean_urls_for_all_kinds_but_coco(tmp_path):
    (tmp_path / "c.txt").write_text("a dog\n")
    settings = SourceSettings("text", captions=str(tmp_path / "c.txt"))
    assert captions(sources.load(settings, captions_only=True)) == [["a dog"]]
