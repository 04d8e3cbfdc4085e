"""A process whose last act is reading a parquet file from a Python file ends well, 200 times of 200.

`pyarrow.parquet.read_table(python_file)` goes through Arrow's dataset scanner, a thread of which may drop the last
reference to the file while the interpreter shuts down: `terminate called without an active exception`, SIGABRT.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "storage",
    "world",
    "concept_pool",
    "pipeline",
    "training",
    "evaluation",
    "reports",
    "jobs",
    "regionpairs",
    "exports",
)
#: Functions of pyarrow that read through its dataset scanner.
SCANNERS = {"read_table", "ParquetDataset", "read_pandas", "dataset"}


@pytest.mark.long
@pytest.mark.slow
def test_two_hundred_processes_that_end_by_reading_a_table(tmp_path):
    table = pa.table({"a": list(range(20_000)), "b": [f"{i:>30}" for i in range(20_000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    program = f"import storage; storage.read_table({str(tmp_path / 'a.parquet')!r})"

    def run(_: int) -> int:
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True)
        return done.returncode

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(run, range(200)))
    assert codes == [0] * 200


def scanners_in(text: str) -> list[str]:
    """Calls such as `pq.read_table(...)` in a program's text; `storage.read_table` is none of them."""
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [
        f"{f.value.id}.{f.attr}"
        for f in calls
        if isinstance(f, ast.Attribute) and f.attr in SCANNERS and isinstance(f.value, ast.Name)
        and f.value.id in ("pq", "parquet", "ds", "pa")
    ]  # fmt: skip


def test_no_room_reads_parquet_through_the_scanner():
    found = {
        str(path.relative_to(ROOT)): calls
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if (calls := scanners_in(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_no_room_gives_bytes_of_python_to_the_threads_that_read_parquet():
    """`storage.arrow_file` is for that."""
    wrong = ("ParquetFile(pa.BufferReader(", "ParquetFile(io.BytesIO(", "ParquetFile(BytesIO(")
    found = [
        f"{path.relative_to(ROOT)}: {call}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for call in wrong
        if call in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_a_scanner_is_seen():
    assert scanners_in("import pyarrow.parquet as pq\npq.read_table(file)") == ["pq.read_table"]
    assert scanners_in("storage.read_table(url)") == []
