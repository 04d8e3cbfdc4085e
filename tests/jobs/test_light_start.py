"""The door is light: help and small commands start without the libraries that take seconds to import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import first_look, job_commands
from pipeline.build import build
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests.pipeline.worlds import settings
from tests.web import serving

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(p.stem for p in (ROOT / "jobs").glob("*.py") if '__name__ == "__main__"' in p.read_text())
JOB_COMMANDS = [*job_commands.JOBS]
HEAVY = ("torch", "torchvision", "spacy", "ray", "transformers", "open_clip", "timm", "pandas", "matplotlib")

#: Runs a module as a script would be run, then says what was imported and the CPU seconds it took.
PROBE = """
import json, runpy, sys, time
heavy, module, argv = json.loads(sys.argv[1])
sys.argv = [module, *argv]
code = 0
try:
    runpy.run_module(module, run_name="__main__")
except SystemExit as e:
    code = e.code or 0
found = [name for name in heavy if name in sys.modules]
print("\\n" + json.dumps({"code": code, "heavy": found, "cpu_s": time.process_time()}))
"""


def start(module: str, *argv: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([HEAVY, module, argv])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("job", JOBS)
def test_help_starts_without_the_heavy_libraries(job):
    said = start(f"jobs.{job}", "--help")
    assert said["code"] == 0
    assert said["heavy"] == []
    assert said["cpu_s"] < 2  # the goal is 1 on a quiet machine; the imports above are what costs seconds


def test_the_command_answers_at_once():
    """In 0.3 CPU seconds on a quiet machine: nothing is imported but argparse and the commands' own files."""
    for argv in (["--help"], ["pool", "--help"], ["stats", "--help"]):
        said = start("jobs.cli", *argv)
        assert (said["code"], said["heavy"]) == (0, [])
        assert said["cpu_s"] < 0.3


@pytest.mark.parametrize("words", JOB_COMMANDS)
def test_a_job_as_a_command_is_as_light(words):
    said = start("jobs.cli", *words, "--help")
    assert (said["code"], said["heavy"]) == (0, [])


@pytest.mark.parametrize("argv", [
    ["train", "--data.dataset=/nowhere"],
    ["train", "--data.dataset=/nowhere", "--student.encoder.kind=nonsense"],
    ["evaluate", "--dataset=/nowhere"],
    ["evaluate", "--student=/nowhere"],
], ids=" ".join)  # fmt: skip
def test_what_is_not_there_is_said_before_the_heavy_libraries_load(argv):
    said = start("jobs.cli", *argv)
    assert (said["code"], said["heavy"]) == (2, [])


def test_where_nothing_can_be_written_is_seen_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    first_look.look(out=str(tmp_path / "new" / "run"))
    first_look.look(out=str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError, match="a folder is needed"):
        first_look.look(out=str(tmp_path / "file" / "run"))
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path))
    with pytest.raises(PermissionError, match="this user may not write there"):
        first_look.look(out=str(tmp_path / "new" / "run"))
    assert not (tmp_path / "new").exists()


def test_a_web_folder_that_is_not_listed_is_no_missing_one(tmp_path):
    with serving(tmp_path) as web:
        web.refuse = (r"/images/$|/images$", 403)
        first_look.look(files=[("truth.images", f"{web.url}/images")])
    with pytest.raises(FileNotFoundError, match=r"truth\.images: no such file"):
        first_look.look(files=[("truth.images", str(tmp_path / "images"))])


def test_the_probe_sees_a_heavy_import():
    assert "matplotlib" in start("matplotlib.sankey")["heavy"]


def test_verify_starts_without_the_heavy_libraries(tmp_path):
    built = settings(tmp_path / "data", SourceSettings(count=12, size=64))
    build(built, LocalRunner())
    said = start("jobs.cli", "verify", built.out)
    assert said["code"] == 0
    assert set(said["heavy"]) <= {
        "pandas"
    }  # Arrow looks for it on its own whenever it makes an array of a list


def test_the_public_names_are_imported_lazily():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, regionpairs; dir(regionpairs); print([m for m in {HEAVY} if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.strip() == "[]"
