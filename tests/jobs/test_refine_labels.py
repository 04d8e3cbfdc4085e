from __future__ import annotations

import json
from pathlib import Path

from jobs import refine_labels
from pipeline import teachers
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.dataset.verify import verify
from pipeline.run_local import LocalRunner
from tests.fakes import ColorTeacher
from tests.pipeline import worlds


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())
    source = worlds.coco_folder(tmp_path / "source", n=12)
    align = AlignSettings(tau=0.1, threshold=0.5, region_embeddings="int8")
    build(worlds.settings(tmp_path / "first", source, align=align), LocalRunner())
    dataset, out = str(tmp_path / "first"), str(tmp_path / "second")
    assert refine_labels.main([dataset, "--runtime", "local", "--out", out, "--corpus.rounds", "2"]) == 0
    assert "pairs" in capsys.readouterr().out
    assert list(verify(out)) == []
    document = json.loads(Path(out, "fingerprint.json").read_text())
    wanted = {"policy": "corpus", "score": "objectness", "threshold": 0.2, "tau": 0.1}
    assert document["align"] == {**document["align"], **wanted}
    assert document["corpus"]["rounds"] == 2
    assert refine_labels.main([dataset, "--runtime", "local", "--out", out, "--corpus.rounds", "3"]) == 2
    assert "corpus.rounds: was 2, is 3" in capsys.readouterr().err
    assert refine_labels.main([dataset, "--runtime", "local", "--out", out, "--align.policy", "pool"]) == 2
    assert "jobs/relabel.py does pool" in capsys.readouterr().err
    assert refine_labels.main([str(tmp_path / "nowhere"), "--out", out]) == 2
    shard = sorted((tmp_path / "first" / "shards").glob("*.tar"))[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert refine_labels.main([dataset, "--runtime", "local", "--out", str(tmp_path / "third")]) == 1
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert f"`regionpairs verify {dataset} --repair` and the command that made that dataset mend it" in said
