"""Columns and keys of the source that travel into the sample's JSON."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import sources
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.run_local import LocalRunner
from pipeline.sources import SourceSettings
from pipeline.sources.extra import extra_of, extra_of_json
from tests import pictures
from tests.pipeline import worlds
from tests.pipeline.sources.kit import rows, write_tar

NAMES = ["url", "score"]
META = {"caption": "a red ball", "url": "https://example.com/é", "score": 0.25, "secret": 1}
WANTED = {"url": "https://example.com/é", "score": 0.25}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x", "x"), ("a\x1b\ud800", "a \ufffd"), ("x" * 9999, "x" * 4096), (True, True), (3, 3), (1 << 70, None),
        (0.5, 0.5), (float("nan"), None), (float("inf"), None), (Decimal("0.5"), 0.5), (None, None), (b"x", None),
        (object(), None), (datetime.date(2026, 1, 2), "2026-01-02"),
        ([1, "a", b"b"], [1, "a", None]), ({"a": {"b": [2]}}, {"a": {"b": [2]}}),
        ([[[[[1]]]]], [[[[None]]]]),
    ],
)  # fmt: skip
def test_values_are_what_json_has_for_them(value, kept):
    found = json.loads(extra_of({"a": value, "b": 1}, ["a"]))
    assert found == ({} if kept is None else {"a": kept})


def test_without_names_there_is_nothing_and_what_is_missing_is_left_out():
    assert extra_of(META, []) == extra_of_json(b"{}", []) == ""
    assert json.loads(extra_of(META, ["nowhere", *NAMES])) == WANTED
    for document in (None, b"", b"[1]", b"{"):
        assert extra_of_json(document, NAMES) == "{}"


def make(root, kind: str) -> SourceSettings:
    image = pictures.encode(pictures.photo())
    if kind == "webdataset":
        write_tar(root / "a.tar", [("0.jpg", image), ("0.json", json.dumps(META).encode())])
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{**META, "image": image}]), root / "a.parquet")
    else:
        (root / "0.jpg").write_bytes(image)
        if kind == "beside":
            (root / "0.json").write_text(json.dumps(META))
        else:
            (root / "metadata.jsonl").write_text(json.dumps({**META, "file_name": "0.jpg"}))
        return SourceSettings("folder", str(root), extra=NAMES)
    return SourceSettings(kind, urls=[str(next(root.iterdir()))], extra=NAMES)


@pytest.mark.parametrize("kind", ["webdataset", "parquet", "beside", "table"])
def test_every_kind_that_has_records_hands_them_on(tmp_path, kind):
    (row,) = rows(sources.load(make(tmp_path, kind)))
    assert not row["problem"]
    assert json.loads(row["extra"]) == WANTED
    assert (
        sources.describe(
            make(tmp_path, kind)
            if kind in ("beside", "table")
            else SourceSettings(kind, urls=["x"], extra=NAMES)
        )["extra"]
        == NAMES
    )


def test_a_build_writes_them_into_the_json_of_each_sample(tmp_path, color_teacher):
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    settings = worlds.settings(
        out, make(tmp_path / "in", "webdataset"), pool=worlds.PoolSettings(min_count=1)
    )
    build(settings, LocalRunner())
    (sample,) = Dataset.open(str(out)).samples()
    assert sample.meta["extra"] == WANTED
