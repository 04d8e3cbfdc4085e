"""The scaling study's page: what it says of runs that follow a law, and of runs that do not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from evaluation.studies.power_law import PowerLaw
from evaluation.studies.scaling_report import Run, write_report


def _runs() -> list[Run]:
    rng = np.random.default_rng(0)
    law = PowerLaw(3.0, 0.5, 0.2)
    runs = []
    for n in (64, 128, 256, 512, 1024):
        for seed in range(3):
            noise = rng.normal(0, 0.002, 2)
            runs.append(Run("caption", "passes", n, seed, 10, float(law(n)) + noise[0]))
            runs.append(Run("shuffled", "passes", n, seed, 10, 0.5 + noise[1]))
    return runs


def test_the_page_predicts_where_a_law_holds_and_refuses_where_none_does(tmp_path: Path):
    page = write_report(tmp_path, _runs(), 0.6, "region top-1", n_bootstrap=60)
    caption, shuffled = (
        next(line for line in page.splitlines() if line.startswith(f"- **{d}"))
        for d in ("caption", "shuffled")
    )
    assert "At twice the largest size it predicts" in caption
    assert "no extrapolation" in shuffled
    assert (tmp_path / "scaling.png").stat().st_size > 5000
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert len(rows) == 30
    assert {row["data"] for row in rows} == {"caption", "shuffled"}


def test_too_few_sizes_give_a_page_without_a_fit(tmp_path: Path):
    page = write_report(tmp_path, [r for r in _runs() if r.n < 200], 0.6, "region top-1")
    assert "no fit: a power law with an offset needs at least 4 sizes" in page
