"""Every job that makes a dataset ends with a page about it, beside it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml

from jobs import build_pairs, page
from pipeline.dataset.verify import verify

pytest.importorskip("jinja2")


def arguments(out: Path, *more: str) -> list[str]:
    """A build of six synthetic scenes by the models that ship with the package."""
    small = ["--runtime", "local", "--source.count", "6", "--source.size", "64", "--pool.min_count", "1"]
    grid = ["--localizer.kind", "grid", "--localizer.max_proposals", "9"]
    return ["--config", "demo", "--out", str(out), *small, *grid, *more]


def test_a_build_writes_its_page_beside_the_dataset_and_names_it(tmp_path, capsys):
    out = tmp_path / "data"
    assert build_pairs.main(arguments(out)) == 0
    written = tmp_path / "data.report.html"
    assert f"report     {written}" in capsys.readouterr().out
    assert "<html" in written.read_text()
    assert list(verify(str(out))) == []  # nothing of it lies in the folder

    written.write_text("my notes")  # a finished dataset is left alone, and so is its page
    assert build_pairs.main(arguments(out)) == 0
    assert written.read_text() == "my notes"
    written.unlink()
    assert build_pairs.main(arguments(out)) == 0
    assert written.exists()

    assert build_pairs.main(arguments(out, "--report", "false")) == 0  # the setting changes no byte
    assert yaml.safe_load((out / "settings.yaml").read_text())["report"] is True
    assert "report" not in json.loads((out / "fingerprint.json").read_text())["settings"]


def test_a_page_that_cannot_be_made_is_a_warning_and_the_build_is_done(tmp_path, capsys, monkeypatch, caplog):
    def broken(*_: object) -> str:
        raise RuntimeError("no\nfonts")

    monkeypatch.setattr("reports.html_report.html_report", broken)
    assert build_pairs.main(arguments(tmp_path / "data")) == 0
    assert "report  " not in capsys.readouterr().out
    assert not (tmp_path / "data.report.html").exists()
    lines = [r.message for r in caplog.records if r.levelno == logging.WARNING and "no report" in r.message]
    assert len(lines) == 1
    assert "no fonts" in lines[0]
    assert "regionpairs report" in lines[0]


def test_the_page_lies_beside_the_folder_however_it_is_written(tmp_path):
    assert page.page_url(f"{tmp_path}/data/") == f"{tmp_path}/data.report.html"
    assert page.page_url("s3://bucket/data/") == "s3://bucket/data.report.html"


def test_no_page_is_asked_for(tmp_path):
    assert build_pairs.main(arguments(tmp_path / "data", "--report", "false")) == 0
    assert not (tmp_path / "data.report.html").exists()
