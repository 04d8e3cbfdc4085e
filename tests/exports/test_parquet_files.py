"""Numbered parquet files of bounded size."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exports.parquet_files import parquet_files

SCHEMA = pa.schema([("i", pa.int64()), ("text", pa.string())])


def write(root, n: int, group_rows: int = 4, file_bytes: int = 1 << 30) -> list[pq.ParquetFile]:
    with parquet_files(lambda i: str(root / f"{i}.parquet"), SCHEMA, group_rows, file_bytes) as add:
        for i in range(n):
            add({"i": i, "text": "x" * 100})
    return [pq.ParquetFile(path) for path in sorted(root.iterdir())]


@pytest.mark.parametrize(("n", "sizes"), [(0, [0]), (3, [3]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])])
def test_files_close_once_they_are_large_and_lose_nothing(tmp_path, n, sizes):
    files = write(tmp_path, n, file_bytes=500)  # a group of 4 rows is some 450 bytes
    assert [f.metadata.num_rows for f in files] == sizes
    assert [i for f in files for i in f.read()["i"].to_pylist()] == list(range(n))


def test_row_groups_have_the_size_asked_for(tmp_path):
    (file,) = write(tmp_path, 10)
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [4, 4, 2]


def test_a_row_that_does_not_fit_leaves_no_half_file(tmp_path):
    def write_badly():
        with parquet_files(lambda i: str(tmp_path / f"{i}.parquet"), SCHEMA, 1, 1 << 30) as add:
            add({"i": 1, "text": ""})
            add({"i": "one", "text": ""})

    with pytest.raises(pa.ArrowInvalid):
        write_badly()
    assert list(tmp_path.iterdir()) == []
