from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import relabel
from pipeline import teachers
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())
    source = worlds.coco_folder(tmp_path / "source", n=6)
    align = AlignSettings(tau=0.1, threshold=0.2, region_embeddings="fp16")
    build(worlds.settings(tmp_path / "first", source, align=align), LocalRunner())
    dataset, out = str(tmp_path / "first"), str(tmp_path / "second")
    assert relabel.main([dataset, "--out", out, "--align.policy", "pool", "--align.threshold", "0.5"]) == 0
    assert "pairs" in capsys.readouterr().out
    document = json.loads(Path(out, "fingerprint.json").read_text())
    assert document["align"] == {**document["align"], "policy": "pool", "threshold": 0.5, "tau": 0.1}
    assert relabel.main([dataset, "--out", out, "--align.policy", "pool", "--align.threshold", "0.6"]) == 2
    assert "align.threshold: was 0.5, is 0.6" in capsys.readouterr().err
    assert relabel.main([dataset, "--out", str(tmp_path / "third"), "--samples_per_shard", "2"]) == 2
    assert relabel.main([str(tmp_path / "nowhere"), "--out", out]) == 2
    with pytest.raises(SystemExit) as e:
        relabel.main([dataset, "--out", out, "--align.tau", "0"])
    assert e.value.code == 2
