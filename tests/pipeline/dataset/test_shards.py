"""The bytes of a shard, and that what people use reads them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.build import build
from pipeline.dataset import Dataset, shards
from pipeline.dataset.npz import read_npz
from pipeline.dataset.sample import pack_arrays
from pipeline.run_local import LocalRunner
from tests.pipeline import worlds

EXPECTED = 14


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    from pipeline import teachers
    from tests.fakes import ColorTeacher

    root = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "load", lambda settings: ColorTeacher())
        build(worlds.settings(root / "out", worlds.coco_folder(root / "input", EXPECTED)), LocalRunner())
    return root / "out"


def tars(dataset) -> list[str]:
    return sorted(str(p) for p in Path(dataset, "shards").iterdir())


def sample(key: str) -> dict:
    return {
        "key": key,
        "extension": "jpg",
        "image": b"image " + key.encode(),
        "meta": "{}",
        "arrays": b"arrays" + key.encode(),
        "n_regions": 0,
        "n_pairs": 0,
        "pair_concept_ids": [],
    }


def test_the_same_samples_give_the_same_bytes_in_any_order():
    rows = [sample(k) for k in ("b", "a", "c")]
    assert shards.pack(rows) == shards.pack(rows[::-1])


def test_a_shard_is_the_tar_that_the_standard_library_writes():
    rng = np.random.default_rng(0)
    samples = [
        {"key": f"{i:024x}", "extension": "jpg", "meta": "é" * n, "arrays": bytes(n), "image": memoryview(rng.bytes(7 * n))}
        for i, n in enumerate((0, 1, 511, 512, 513, 9000, 10240))
    ]  # fmt: skip
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, data in (
                ("jpg", sample["image"]),
                ("json", sample["meta"].encode()),
                ("npz", sample["arrays"]),
            ):
                info = tarfile.TarInfo(f"{sample['key']}.{name}")
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
    assert shards.pack(samples[::-1])[0] == sink.getvalue()


def test_the_index_says_where_members_lie(dataset):
    opened = Dataset.open(str(dataset))
    assert opened.n_samples == EXPECTED
    for row in opened.shards:
        data = Path(row.url).read_bytes()
        members = dict(shards.read_shard(data))
        index = pq.read_table(row.index_url).to_pylist()
        assert [entry["key"] for entry in index] == list(members)
        for entry in index:
            for member in ("image", "json", "npz"):
                extension = entry["extension"] if member == "image" else member
                start = entry[f"{member}_offset"]
                assert data[start : start + entry[f"{member}_bytes"]] == members[entry["key"]][extension]


def test_members_are_adjacent_sorted_and_anonymous(dataset):
    for path in tars(dataset):
        with tarfile.open(path) as tar:
            infos = tar.getmembers()
        keys = [i.name.split(".")[0] for i in infos]
        assert keys == sorted(keys)
        assert [i.name.split(".", 1)[1] for i in infos[:3]] == ["jpg", "json", "npz"]
        assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} == {
            (0, 0, 0, "", "", 0o644)
        }


def test_arrays_survive_and_pickles_do_not():
    arrays = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.zeros((0, 4), np.uint16)}
    back = read_npz(pack_arrays(arrays))
    assert {k: (v.dtype, v.shape) for k, v in back.items()} == {
        k: (v.dtype, v.shape) for k, v in arrays.items()
    }
    assert pack_arrays(arrays) == pack_arrays(arrays)
    with pytest.raises(ValueError, match="an array of objects"):
        pack_arrays({"a": np.array([{}], dtype=object)})


def test_webdataset_reads_it(dataset):
    import webdataset

    rows = list(webdataset.WebDataset(tars(dataset), shardshuffle=False).decode("pil"))
    assert len(rows) == EXPECTED
    assert rows[0]["jpg"].size == (40, 30)
    assert rows[0]["json"]["n_regions"] == len(rows[0]["npz"]["boxes_xyxy_norm"])


def test_hugging_face_datasets_read_it(dataset, tmp_path):
    import datasets

    rows = datasets.load_dataset(
        "webdataset", data_files={"train": tars(dataset)}, split="train", cache_dir=str(tmp_path)
    )
    assert len(rows) == EXPECTED
    assert rows[0]["jpg"].size == (40, 30)
    assert {row["json"]["key"] for row in rows} == {row["__key__"] for row in rows}


def test_duckdb_and_pandas_read_the_tables(dataset):
    import duckdb
    import pandas

    total = duckdb.sql(f"select sum(n_samples), count(*) from '{dataset}/manifest.parquet'").fetchall()
    assert total == [(EXPECTED, 3)]
    assert duckdb.sql(f"select count(*) from '{dataset}/rejects.parquet'").fetchall() == [(0,)]
    top = duckdb.sql(
        f"""select c.name, sum(m.n) n from (select unnest(concept_ids) id, unnest(concept_counts) n
        from '{dataset}/manifest.parquet') m join '{dataset}/concept_pool/concepts.parquet' c on c.concept_id = m.id
        group by 1 order by 2 desc"""
    ).fetchall()
    assert sum(n for _, n in top) == int(pandas.read_parquet(dataset / "manifest.parquet").n_pairs.sum())


@pytest.mark.ray
def test_ray_data_reads_it(dataset, ray_instance):
    rows = ray_instance.data.read_webdataset(tars(dataset)).take_all()
    assert len(rows) == EXPECTED
    assert {r["__key__"] for r in rows} == {
        json.loads(m["json"])["key"]
        for t in tars(dataset)
        for _, m in shards.read_shard(Path(t).read_bytes())
    }
