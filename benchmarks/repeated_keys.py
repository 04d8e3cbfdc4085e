"""What a driver and a task hold while keys that an earlier unit has are looked for, at growing numbers of keys.

python -m benchmarks.repeated_keys --sizes 100000 1000000 10000000

The indices are simulated: units of 65,536 rows with a key and no problem, one key in a hundred being an earlier one. The
passes run in one other process, so that the memory of the driver is its own. Each size has its own driver. The last line
is JSON: for each size by how much the peak RSS of driver and worker grew (MiB), CPU seconds and bytes read of the worker
per key, the rows found and whether they are those that must be found.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import storage
from pipeline import pieces, repeated_keys
from pipeline.dataset.layout import Layout

UNIT_ROWS = 1 << 16
#: One key in so many is an earlier one.
EVERY = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    results = {}
    for size in options.sizes:
        command = [sys.executable, "-m", "benchmarks.repeated_keys", "--one", str(size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[str(size)] = json.loads(output.splitlines()[-1])
        print(size, results[str(size)], file=sys.stderr, flush=True)
    print(json.dumps(results))


def measure(n_keys: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=context) as worker:
        layout = Layout(folder)
        with ProcessPoolExecutor(1, mp_context=context) as writer:
            n_rows = writer.submit(write_indices, layout, n_keys).result()
        versions = [f"{unit:064x}" for unit in range(len(n_rows))]
        n_bytes = sum(Path(layout.unit_index(unit)).stat().st_size for unit in range(len(n_rows)))
        worker_before = worker.submit(_start).result()
        before, found, right = peak_mib(), 0, True
        for unit, rows in repeated_keys.rows_to_mark(layout, n_rows, versions, partial(run, worker)):
            found += len(rows)
            right &= rows.tolist() == expected(unit, n_rows[unit])
        driver = peak_mib() - before
        worker_mib, cpu_s, read = worker.submit(_used).result()
    return {
        "driver_grew_mib": round(driver, 1),
        "worker_grew_mib": round(worker_mib - worker_before, 1),
        "cpu_us_per_key": round(1e6 * cpu_s / n_keys, 2),
        "index_bytes_per_key": round(n_bytes / n_keys, 1),
        "piece_bytes_read_per_key": round(read / n_keys, 1),
        "found": found,
        "right": bool(right and found == n_keys // EVERY),
    }


def run(
    worker: ProcessPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any], slow: bool = False
) -> Iterator[Any]:
    """One item at a time, in the other process."""
    return (worker.submit(function, item).result() for item in items)


def keys_of(unit: int, n: int) -> list[str]:
    """Every `EVERY`th key is that of the row before, or of the unit before where it is the first."""
    rows = np.arange(unit * UNIT_ROWS, unit * UNIT_ROWS + n)
    again = rows % EVERY == EVERY - 1
    rows[again] = rows[again] * 7919 % np.maximum(1, unit * UNIT_ROWS)
    shifted = rows - (rows % EVERY == EVERY - 1)  # never the key of a row that repeats one
    return [f"shards/{row // 10000:05d}.tar/{row:012d}" for row in shifted.tolist()]


def write_indices(layout: Layout, n_keys: int) -> list[int]:
    """Rows of each unit."""
    n_rows = []
    Path(layout.unit_index(0)).parent.mkdir(parents=True)
    for unit, start in enumerate(range(0, n_keys, UNIT_ROWS)):
        n = min(UNIT_ROWS, n_keys - start)
        table = pa.table({"source_key": keys_of(unit, n), "problem": [""] * n})
        pq.write_table(table, layout.unit_index(unit))
        n_rows.append(n)
    return n_rows


def expected(unit: int, n: int) -> list[int]:
    rows = np.arange(unit * UNIT_ROWS, unit * UNIT_ROWS + n)
    return np.flatnonzero(rows % EVERY == EVERY - 1).tolist()


_STARTED: dict[str, float] = {}


def _start() -> float:
    """Counts from here, in the worker; its peak so far."""
    _STARTED.update(cpu=_cpu(), read=0)

    read = storage.read_bytes

    def counting(url: str, start: int | None = None, end: int | None = None) -> bytes:
        data = read(url, start, end)
        _STARTED["read"] += len(data)
        return data

    pieces.storage.read_bytes = counting  # type: ignore[attr-defined]
    return peak_mib()


def _used() -> tuple[float, float, float]:
    return peak_mib(), _cpu() - _STARTED["cpu"], _STARTED["read"]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
