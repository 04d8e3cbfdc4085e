"""One set of versions: constraints.txt names every direct requirement, and everything that installs uses it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = (line.partition(" ;")[0].partition("==") for line in lines if not line.startswith("#"))
    return {name: version for name, _, version in found}


def test_every_direct_requirement_is_pinned_within_its_bounds():
    tomllib = pytest.importorskip("tomllib")
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra, some in project["optional-dependencies"].items():
        texts += [] if extra == "gcs" else some  # Google's client is not tested here
    pinned = pins()
    for text in texts:
        requirement = requirements.Requirement(text)
        name = requirement.name.lower().replace("_", "-")
        if name != "regionpairs":
            assert requirement.specifier.contains(pinned[name]), text


def test_versions_have_no_local_part():
    """`torch==2.6.0` allows `2.6.0+cpu`; pinned with it, no other machine could install it."""
    assert [name for name, version in pins().items() if "+" in version or "@" in version] == []


@pytest.mark.parametrize("file", ["Makefile", "ray_cluster.yaml"])
def test_what_installs_the_project_uses_them(file):
    lines = (ROOT / file).read_text().splitlines()
    installs = [n for n in lines if "regionpairs[" in n or "--editable" in n]
    assert installs
    assert all("constraints.txt" in line for line in installs)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_the_extras_that_the_code_names_are_there():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {
        "ray",
        "photos",
        "duplicates",
        "detr",
        "train",
        "evaluate",
        "duplicates",
        "report",
        "completion",
        "docs",
        "s3",
        "gcs",
        "all",
        "dev",
    } == set(extras)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_every_room_is_packaged_typed_and_checked():
    import tomllib

    from tests.imports import ROOMS

    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert {f"{room}*" for room in ROOMS} == set(tools["setuptools"]["packages"]["find"]["include"])
    assert set(ROOMS) == set(tools["mypy"]["packages"])
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").is_file()] == []
