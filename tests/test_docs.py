"""The documentation: the site builds strictly, and the page of settings is that of the settings classes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def configuration():
    spec = importlib.util.spec_from_file_location("configuration", ROOT / ".ci" / "configuration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_settings_is_that_of_the_classes():
    made = configuration()
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "make configuration writes it anew"


def test_every_key_has_a_line_that_says_what_it_is():
    rows = re.findall(r"^\| `(\S+)` \| .* \| (.*) \|$", configuration().page(), re.M)
    assert len(rows) > 100
    assert [key for key, text in rows if not text.strip()] == []


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_link_of_a_page_leads_to_a_file(page):
    """On a forge too, where nobody builds the site."""
    names = [name for name in links(page.read_text(encoding="utf-8")) if "://" not in name]
    assert [name for name in names if not (page.parent / name).exists()] == []


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_nobody_else(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install 'regionpairs[docs]'")
    pytest.importorskip("material", reason="pip install 'regionpairs[docs]'")
    pytest.importorskip("mkdocstrings", reason="pip install 'regionpairs[docs]'")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = sorted((tmp_path / "site").rglob("*.html"))
    text = "".join(p.read_text(encoding="utf-8") for p in pages)
    assert "annotate" in (tmp_path / "site" / "reference" / "api.html").read_text(encoding="utf-8")
    assert not re.findall(
        r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://(?!example)[^\"]+\"[^>]*(?:stylesheet|script)",
        text,
    )
    assert "fonts.googleapis" not in text


def test_every_public_name_is_in_the_reference():
    import regionpairs

    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert [name for name in regionpairs.__all__ if not re.search(rf"\b{re.escape(name)}\b", page)] == []


def test_every_command_is_on_the_page_of_commands():
    from jobs.cli import parser

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = next(a for a in parser()._actions if a.choices and "verify" in a.choices).choices
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [name for name in commands if f"`{name}" not in rows] == []


def job_lines(page: Path) -> list[list[str]]:
    """The commands `regionpairs JOB --KEY ...` of a page, as words behind `regionpairs`."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^regionpairs ((?:build|train|evaluate) --.*)$", text, re.M)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_keys_and_presets_of_the_first_commands_exist(page):
    from jobs.arguments import parser_of
    from jobs.job_commands import JOBS

    lines = job_lines(ROOT / page)
    assert len(lines) >= 2
    for job, *words in lines:
        module, name = JOBS[job,].settings
        parser_of(getattr(importlib.import_module(module), name)).parse_args(words)
