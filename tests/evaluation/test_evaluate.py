"""The job, from its command line to its JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import evaluate
from pipeline.build import build
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
from tests.shared_data import shared_data


@pytest.fixture(autouse=True)
def color_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())


def test_a_model_is_measured_with_its_proposals(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "new" / "report.json"
    arguments = [
        "--truth.count",
        "3",
        "--truth.size",
        "64",
        "--proposals",
        "true",
        "--localizer.kind",
        "grid",
    ]
    assert evaluate.main([*arguments, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["n_images"] == 3
    assert report["settings"]["truth"]["size"] == 64
    assert set(report["detection_on_proposals"]) == {"sqrt-logit", "sqrt-sigmoid"}
    assert "regions.all.top1: " in capsys.readouterr().out


def test_a_dataset_of_the_real_photographs_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """End to end: COCO captions in, pairs out, COCO instances as the truth about them."""
    photos = shared_data() / "coco_photos"
    source = worlds.SourceSettings(
        kind="coco", images=str(photos / "images"), captions=str(photos / "captions.json"), limit=12
    )
    build(worlds.settings(tmp_path / "data", source, reject_budget=1.0), LocalRunner())
    arguments = ["--dataset", str(tmp_path / "data"), "--truth.kind", "coco"]
    arguments += [
        "--truth.images",
        str(photos / "images"),
        "--truth.instances",
        str(photos / "instances.json"),
    ]
    assert evaluate.main(arguments) == 0
    assert "pairs.all.precision: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "{tmp}/nothing"], "is no dataset"),
        (
            ["--truth.kind", "coco", "--truth.images", "{tmp}", "--truth.instances", "{tmp}/none.json"],
            "none.json",
        ),
    ],
)
def test_what_is_missing_ends_with_one_line(tmp_path: Path, capsys, arguments: list[str], says: str):
    assert evaluate.main([a.format(tmp=tmp_path) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
