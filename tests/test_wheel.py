"""The project where it is not a checkout: the wheel alone, and a copy of the checkout that nobody installed."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.imports import ROOMS

ROOT = Path(__file__).resolve().parents[1]
JOBS = sorted(p.stem for p in (ROOT / "jobs").glob("*.py") if '__name__ == "__main__"' in p.read_text())
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the project's files."""
    copy = tmp_path_factory.mktemp("checkout") / "project"
    left_out = shutil.ignore_patterns(
        ".*", "runs", "build", "dist", "*.egg-info", "__pycache__", "docs", "tests"
    )
    shutil.copytree(ROOT, copy, ignore=left_out)
    return copy


def bare_python(folder: Path) -> Path:
    """The Python of a new environment that has this one's libraries, and not this project."""
    venv.create(folder, with_pip=False)
    (own,) = (folder / "lib").glob("python*/site-packages")
    # A path in a .pth file is only appended: the .pth file of an editable install that lies there is not read.
    (own / "libraries.pth").write_text(
        "\n".join([p for p in site.getsitepackages() if Path(p).is_dir()]) + "\n"
    )
    return folder / "bin" / "python"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(checkout, tmp_path_factory) -> Path:
    """The `bin` of a fresh environment that holds the wheel."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = run(
        *pip, "wheel", checkout, "--no-deps", "--no-build-isolation", "-v", "-w", folder / "dist", cwd=folder
    )
    assert not re.search(r"absent from the `packages`|importable package|discouraged", built)
    (wheel,) = (folder / "dist").glob("*.whl")
    python = bare_python(folder / "venv")
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", "-q", wheel, cwd=folder)
    return python.parent


def test_the_wheel_alone_builds_the_demo_and_verifies_it(installed, tmp_path):
    python = installed / "python"
    where = run(python, "-c", "import regionpairs as r; print(r.__version__, r.__file__)", cwd=tmp_path)
    assert str(installed.parent) in where
    assert "verify" in run(installed / "regionpairs", "--help", cwd=tmp_path)
    out = tmp_path / "demo"
    build = [python, "-m", "jobs.build_pairs", "--config", "demo", "--runtime", "local"]
    assert "24 written of 24 read" in run(*build, "--source.count", "24", "--out", out, cwd=tmp_path)
    assert "whole" in run(installed / "regionpairs", "verify", out, cwd=tmp_path)


def test_the_wheel_says_that_it_is_typed_and_holds_no_tests(installed, tmp_path):
    (packages,) = (installed.parent / "lib").glob("python*/site-packages")
    assert [room for room in ROOMS if not (packages / room / "py.typed").is_file()] == []
    assert not (packages / "tests").exists()
    assert not (packages / "benchmarks").exists()


@pytest.fixture(scope="module")
def nothing_installed(tmp_path_factory) -> Path:
    return bare_python(tmp_path_factory.mktemp("bare") / "venv")


@pytest.mark.parametrize("job", JOBS)
def test_a_copy_that_nobody_installed_runs_by_the_path_that_ray_sets(job, checkout, nothing_installed):
    """`ray job submit --working-dir .` runs `python jobs/x.py` in a copy of the folder, which is on PYTHONPATH."""
    script = f"jobs/{job}.py"
    assert "usage" in run(nothing_installed, script, "--help", cwd=checkout, PYTHONPATH=str(checkout))


def test_a_copy_that_nobody_installed_runs_by_module_from_its_root(checkout, nothing_installed):
    assert "usage" in run(nothing_installed, "-m", "jobs.build_pairs", "--help", cwd=checkout)


def test_without_either_it_is_not_found(checkout, nothing_installed, tmp_path):
    """The control: the environment of these tests does not have the project."""
    with pytest.raises(AssertionError, match="No module named 'jobs'"):
        run(nothing_installed, checkout / "jobs" / "build_pairs.py", "--help", cwd=tmp_path)
