from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import sources
from pipeline.sources.settings import SourceSettings
from tests.pipeline.sources.kit import rows as rows_of
from tests.pipeline.sources.kit import write_tar


def tar(path, members):
    return str(write_tar(path, members))


def problems(source):
    return {row["source_key"]: row["problem"] for row in rows_of(source)}


def test_coco_lists_what_the_captions_file_lists(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "b.jpg").write_bytes(b"bb")
    (images / "a.jpg").write_bytes(b"a")
    (images / "not-listed.jpg").write_bytes(b"x")
    document = {
        "images": [
            {"id": i, "file_name": n} for i, n in enumerate(["b.jpg", "a.jpg", "gone.jpg", "mute.jpg"])
        ],
        "annotations": [
            {"image_id": 0, "caption": "two dogs"},
            {"image_id": 0, "caption": "  "},
            {"image_id": 1, "caption": "\n"},
            {"image_id": 2, "caption": "x"},
        ],
    }
    (images / "mute.jpg").write_bytes(b"m")
    (tmp_path / "captions.json").write_text(json.dumps(document))
    source = sources.load(
        SourceSettings(kind="coco", images=str(images), captions=str(tmp_path / "captions.json"))
    )
    rows = rows_of(source)
    assert [r["source_key"] for r in rows] == ["a.jpg", "b.jpg", "gone.jpg", "mute.jpg"]
    reasons = [r["problem"].partition(":")[0] for r in rows]
    assert reasons == ["empty_caption", "", "missing_file", "no_caption"]
    assert rows[1]["captions"] == ["two dogs"]
    assert source.read(rows[1]) == b"bb"


def test_webdataset_reads_img2dataset_tars(tmp_path):
    url = tar(
        tmp_path / "00000.tar",
        [
            ("000.jpg", b"jpeg"),
            ("000.txt", b"a cat"),
            ("000.json", json.dumps({"caption": "a cat", "url": "x"}).encode()),
            ("001.png", b"png!"),
            ("001.json", json.dumps({"caption": "a dog"}).encode()),
            ("002.txt", b"no image"),
            ("sub/003.WEBP", b"webp"),
            ("sub/003.txt", b"un chat"),
            ("004.jpg", b"j"),
            ("004.json", b"{broken"),
        ],
    )
    source = sources.load(SourceSettings(kind="webdataset", urls=[str(tmp_path / "*.tar")]))
    rows = {r["source_key"]: r for r in rows_of(source)}
    assert rows["00000.tar/000"]["captions"] == ["a cat"]
    assert source.read(rows["00000.tar/000"]) == b"jpeg"
    assert source.read(rows["00000.tar/001"]) == b"png!"
    assert source.read(rows["00000.tar/sub/003"]) == b"webp"
    assert rows["00000.tar/002"]["problem"].startswith("no_image")
    assert rows["00000.tar/004"]["problem"] == "bad_json"
    assert url.endswith(rows["00000.tar/000"]["location"])


@pytest.mark.parametrize("cut", ["at a member boundary", "inside a member"])
def test_a_cut_tar_is_noticed_and_its_whole_samples_are_kept(tmp_path, cut):
    path = tmp_path / "a.tar"
    tar(path, [(f"{i}.{e}", bytes(600)) for i in range(3) for e in ("jpg", "txt")])
    data = path.read_bytes()
    sample = 2 * (512 + 1024)
    path.write_bytes(data[: 2 * sample] if cut == "at a member boundary" else data[: 2 * sample + 700])
    found = problems(sources.load(SourceSettings(kind="webdataset", urls=[str(path)])))
    assert [p.partition(":")[0] for p in found.values()].count("damaged_tar") == 1
    assert {"a.tar/0", "a.tar/1"} <= set(found)


def test_parquet_reads_bytes_paths_and_hugging_face_cells(tmp_path):
    (tmp_path / "p.jpg").write_bytes(b"from a path")
    pq.write_table(
        pa.table({"key": ["x", "y"], "image": [b"one", b"two"], "captions": [["a", "b"], []]}),
        tmp_path / "bytes.parquet",
        row_group_size=1,
    )
    pq.write_table(pa.table({"path": ["p.jpg"], "caption": ["c"]}), tmp_path / "paths.parquet")
    pq.write_table(
        pa.table({"image": [{"bytes": b"cell", "path": None}], "text": ["t"]}), tmp_path / "cells.parquet"
    )
    urls = [str(tmp_path / f"{n}.parquet") for n in ("bytes", "paths", "cells")]
    source = sources.load(SourceSettings(kind="parquet", urls=urls))
    rows = rows_of(source)
    assert [r["source_key"] for r in rows] == ["x", "y", "paths.parquet:0", "cells.parquet:0"]
    assert [r["problem"] for r in rows] == ["", "no_caption", "", ""]
    assert [source.read(r) for r in rows] == [b"one", b"two", b"from a path", b"cell"]


def test_parquet_without_the_columns_says_which_it_found(tmp_path):
    pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), tmp_path / "a.parquet")
    source = sources.load(SourceSettings(kind="parquet", urls=[str(tmp_path / "a.parquet")]))
    assert rows_of(source)[0]["problem"] == "no_image: its columns are url, caption"
    pq.write_table(pa.table({"url": ["u"], "image": [b"c"]}), tmp_path / "a.parquet")
    source = sources.load(SourceSettings(kind="parquet", urls=[str(tmp_path / "a.parquet")]))
    with pytest.raises(
        ValueError, match=r"a.parquet has the columns url, image; needed: captions, caption or text"
    ):
        rows_of(source)


def test_shapes_are_drawn_on_demand():
    source = sources.load(SourceSettings(kind="shapes", count=3, seed=5))
    rows = rows_of(source)
    assert len(rows) == 3
    assert source.read(rows[2]) == source.read(rows[2])
    assert source.read(rows[2])[:4] == b"\x89PNG"
