"""Kinds of users' own: an installed package offers a localizer, a teacher and a source, and a build uses them."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline import localizers, sources, teachers
from pipeline.build import Refused, build
from pipeline.dataset.verify import verify
from pipeline.kinds import Kinds
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings
from tests.pipeline.worlds import settings

LOCALIZER = """
import numpy as np
from pipeline.localizers import Proposals

def load(settings, device):
    n = settings.options.get("n", 2)
    def localize(images, keys=None):
        boxes = np.array([[0, 0, (i + 1) / n, 1] for i in range(n)], np.float32)
        return [Proposals(boxes, -np.arange(n, dtype=np.float32)) for _ in images]
    return localize

def describe(settings):
    return {"n": settings.options.get("n", 2)}
"""
TEACHER = """
from tests.fakes import ColorTeacher

def load(settings):
    return ColorTeacher()

def describe(settings):
    return {"colours": 3}
"""
SOURCE = """
from pipeline.sources import Unit, index_row
from tests import pictures

class Photos:
    root = ""
    unique_keys = True
    has_images = True
    def units(self):
        return [Unit("", 0, "", 0, 9)]
    def index(self, unit):
        for i in range(unit.start, unit.stop):
            yield index_row(f"toy-{i}", "toy", ["a red ball", "the ball is red"], row=i)
    def read(self, row):
        return pictures.encode(pictures.photo(40, 30, seed=row["row"]))
    def check(self):
        pass
    def identity(self):
        return {"photos": 9}

def load(settings):
    return Photos()

def describe(settings):
    return {"photos": 9}
"""


def install(folder: Path, name: str, version: str, points: dict[str, str], **modules: str) -> None:
    """A distribution as pip leaves it: its modules, and a dist-info folder with its entry points."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"[regionpairs.{group}]\n{line}\n" for group, line in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """An installed package that offers one kind of each room."""
    folder = tmp_path / "site"
    folder.mkdir()
    points = {group: f"toy = toy_{group}" for group in ("localizers", "teachers", "sources")}
    modules = {"toy_localizers": LOCALIZER, "toy_teachers": TEACHER, "toy_sources": SOURCE}
    install(folder, "toy-pairs", "1.2", points, **modules)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for module in modules:
        sys.modules.pop(module, None)


def toy_build(out: Path, **options):
    return settings(
        out,
        SourceSettings(kind="toy"),
        localizer=LocalizerSettings(kind="toy", options=options),
        teacher=TeacherSettings(kind="toy"),
        workers=1,
    )


def test_a_build_uses_an_installed_package_s_localizer_teacher_and_source(toy, tmp_path):
    summary = build(toy_build(tmp_path / "out", n=3), LocalRunner())
    assert (summary["n_samples"], summary["n_regions"]) == (9, 27)
    assert list(verify(str(tmp_path / "out"))) == []
    said = json.loads((tmp_path / "out" / "fingerprint.json").read_text())
    assert said["localizer"] == {"kind": "toy", "n": 3, "distribution": "toy-pairs", "version": "1.2"}
    assert {"colours": 3, "distribution": "toy-pairs", "version": "1.2"}.items() <= said["teacher"].items()


def test_another_version_of_the_package_is_another_dataset(toy, tmp_path):
    build(toy_build(tmp_path / "out"), LocalRunner())
    (toy / "toy_pairs-1.2.dist-info").exists()
    info = next(toy.glob("*.dist-info"))
    (info / "METADATA").write_text((info / "METADATA").read_text().replace("1.2", "1.3"))
    with pytest.raises(Refused, match=r'localizer.version: was "1.2", is "1.3"'):
        build(toy_build(tmp_path / "out"), LocalRunner())


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (
            lambda: LocalizerSettings(kind="magic"),
            r"localizer.kind: 'magic' is not known \(grid, .*besides: toy\)",
        ),
        (
            lambda: TeacherSettings(kind="magic"),
            r"teacher.kind: 'magic' is not known \(photo, .*besides: toy\)",
        ),
        (
            lambda: SourceSettings(kind="magic"),
            r"source.kind: 'magic' is not known \(shapes, .*besides: toy\)",
        ),
    ],
)
def test_an_unknown_kind_is_one_line_that_lists_what_there_is(toy, make, known):
    with pytest.raises(ValueError, match=known) as e:
        make()
    assert "\n" not in str(e.value)


def test_a_name_of_ours_cannot_be_taken(tmp_path, monkeypatch):
    install(tmp_path, "impostor", "1", {"localizers": "grid = impostor"}, impostor="raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(localizers.load(LocalizerSettings(kind="grid"))).__module__ == "pipeline.localizers.grid"
    assert "distribution" not in localizers.describe(LocalizerSettings(kind="grid"))


def test_two_packages_with_one_name_are_refused_by_name(toy, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    install(other, "second", "1", {"localizers": "toy = second"}, second=LOCALIZER)
    monkeypatch.syspath_prepend(str(other))
    with pytest.raises(ValueError, match="offered by more than one package: second, toy-pairs"):
        LocalizerSettings(kind="toy")


def test_a_module_without_describe_is_refused_by_name(tmp_path, monkeypatch):
    half = textwrap.dedent("""
        def load(settings):
            return None
    """)
    install(tmp_path, "half", "1", {"teachers": "half = half_teacher"}, half_teacher=half)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"teacher\.kind: 'half' is half_teacher, which has no describe"):
        teachers.load(TeacherSettings(kind="half"))


@pytest.mark.parametrize("room", [localizers, teachers, sources])
def test_every_kind_of_ours_is_a_module_with_load_and_describe(room):
    kinds: Kinds = room.KINDS
    for kind in kinds.ours:
        module = kinds.module(kind)
        assert callable(module.load), kind
        assert callable(module.describe), kind
