"""A small part of `benchmarks/fuzz_sources.py`, by another seed: nothing is lost without a row, nothing raises."""

from __future__ import annotations

import pytest

from benchmarks import fuzz_sources

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    ("fuzz", "n"),
    [(fuzz_sources.fuzz_tars, 60), (fuzz_sources.fuzz_coco, 60), (fuzz_sources.fuzz_parquet, 40)],
)
def test_mutated_files(tmp_path, fuzz, n):
    found = fuzz(n, tmp_path, seed=7)
    wrong = {key: found[key] for key in ("lost without a row", "tracebacks", "long lines", "hangs")}
    assert not any(wrong.values()), (wrong, found["examples"])
    assert found["with rejects"] > n // 4


def test_mutated_exif():
    assert fuzz_sources.fuzz_exif(150, seed=7) == {"n": 150, "lost": 0, "otherwise": 0}
