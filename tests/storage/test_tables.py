"""Parquet is read through one function: named in errors, and without an abort at the end of the process."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import storage
from tests.storage.flaky import Flaky, put


def _bytes(n=1000, **options):
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(n)), "b": [str(i) * 9 for i in range(n)]}), sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("root", ["local", "memory://tables", "flaky://bucket"])
def test_a_table_and_its_columns(root, tmp_path):
    url = (str(tmp_path) if root == "local" else root) + "/a.parquet"
    storage.write_bytes(url, _bytes(row_group_size=300))
    assert storage.read_table(url).num_rows == 1000
    assert storage.read_table(url, columns=["b"]).column_names == ["b"]
    with storage.open_parquet(url) as file:
        assert file.num_row_groups == 4
        assert file.read_row_group(3)["a"].to_pylist() == list(range(900, 1000))


def test_row_groups_are_read_through_failures():
    put("flaky://bucket/a.parquet", _bytes(row_group_size=100))
    Flaky.fail = staticmethod(lambda name, n: TimeoutError() if name == "fetch" and n % 3 == 1 else None)
    with storage.open_parquet("flaky://bucket/a.parquet") as file:
        assert file.read_row_group(7)["a"].to_pylist() == list(range(700, 800))


@pytest.mark.parametrize("harm", ["empty", "cut", "text", "flipped"])
def test_a_damaged_file_is_named_in_one_short_line(tmp_path, harm):
    data = _bytes()
    file = tmp_path / "bad.parquet"
    half = len(data) // 3
    file.write_bytes(
        {
            "empty": b"",
            "cut": data[:half],
            "text": b"x" * 1000,
            "flipped": data[:40] + bytes(half) + data[40 + half :],
        }[harm]
    )

    def by_groups():
        with storage.open_parquet(str(file)) as opened:
            return opened.read()

    for read in (lambda: storage.read_table(str(file)), by_groups):
        with pytest.raises(ValueError, match=r"bad\.parquet: not a parquet file that can be read") as raised:
            read()
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 600


def test_an_outage_is_no_damage():
    put("flaky://bucket/a.parquet", _bytes())
    Flaky.fail = staticmethod(lambda name, n: TimeoutError() if name in ("fetch", "cat_file") else None)
    with pytest.raises(storage.Unavailable):
        storage.read_table("flaky://bucket/a.parquet")
    with pytest.raises(storage.Unavailable), storage.open_parquet("flaky://bucket/a.parquet") as file:
        file.read()


def test_a_process_whose_last_act_is_reading_a_table_ends_well(tmp_path):
    storage.write_bytes(str(tmp_path / "a.parquet"), _bytes(20000, row_group_size=1000))
    program = f"import storage; storage.read_table({str(tmp_path / 'a.parquet')!r})"

    def run(_):
        return subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(run, range(4))) == {0}


def test_no_thread_of_arrow_keeps_bytes_of_python_after_a_read():
    """A thread that lets go of them while the interpreter ends aborts it; a plain `pa.BufferReader` kept them in 30 % of
    reads."""
    table = pa.table({f"c{i}": list(range(300)) for i in range(60)})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    kept = 0
    for _ in range(100):
        data = bytes(bytearray(stream.getvalue()))
        before = sys.getrefcount(data)
        assert pq.ParquetFile(storage.arrow_file(data)).read().num_rows == 300
        kept += sys.getrefcount(data) > before
    assert kept == 0
    assert storage.arrow_file(b"").read() == b""
