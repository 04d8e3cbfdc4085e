"""The studies' jobs: their settings, their refusals, and a report from metrics alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import evaluate, label_study, scaling_study, train_shapes_teacher


@pytest.mark.parametrize("job", [evaluate, label_study, scaling_study, train_shapes_teacher])
def test_help_lists_every_key(job, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        job.main(["--help"])
    assert stop.value.code == 0
    assert "--out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("job", "argv", "says"),
    [
        (label_study, [], "dataset: is empty"),
        (label_study, ["--dataset", "x", "--arms", "[nonsense]"], "nonsense not known"),
        (evaluate, ["--truth.kind", "coco"], "truth.images"),
        (evaluate, ["--dataset", "x", "--proposals", "true"], "dataset: measures the pairs"),
        (evaluate, ["--detection.class_nms", "2"], "detection.class_nms: must be in [0, 1]"),
        (scaling_study, [], "datasets: is empty"),
        (scaling_study, ["--datasets", "{a: b}", "--fractions", "[0]"], "fractions: must be above 0"),
    ],
)
def test_bad_settings_end_with_one_line(job, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        job.main(argv)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_a_scaling_report_needs_metrics_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing but JSON files is there: no dataset, no weights."""
    regions = {"regions": {"all": {"top1": 0.4}}}
    (tmp_path / "teacher.json").write_text(json.dumps(regions))
    for n in (32, 64, 128, 256, 512):
        for seed in range(2):
            folder = tmp_path / "runs" / f"caption-passes-{n}-{seed}"
            folder.mkdir(parents=True)
            top1 = 0.7 - 2 / n**0.5 + 0.001 * seed
            run = {"data": "caption", "budget": "passes", "seed": seed, "n_samples": n, "step": 10}
            (folder / "metrics.json").write_text(json.dumps(run | {"regions": {"all": {"top1": top1}}}))
    assert scaling_study.main(["--out", str(tmp_path), "--only_report", "true"]) == 0
    assert "| passes | caption | 512 | 2 | 10 |" in capsys.readouterr().out
    assert (tmp_path / "report.md").exists()
