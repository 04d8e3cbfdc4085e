"""Duplicates in a build: which go, which stay, what is said of them; resumed, healed, relabelled, verified."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import storage
from concept_pool.settings import PoolSettings
from jobs import cli
from pipeline.block_list import BlockList
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.dataset.claim import Refused
from pipeline.dataset.layout import Layout
from pipeline.dataset.verify import verify
from pipeline.duplicates import find
from pipeline.duplicates.hashes import of_image
from pipeline.duplicates.held_out import HEAD, HeldOut
from pipeline.duplicates.settings import DuplicateSettings
from pipeline.images import BadSample
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds

pytest.importorskip("imagehash", reason="pip install 'regionpairs[duplicates]'")
WORDS = ["red ball", "green boat", "blue kite"]


class TwoAtOnce(LocalRunner):
    """Threads take items side by side, in another order than they are asked for."""

    def map(self, function, items, slow=False):
        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(function, list(items))


def picture(seed: int) -> Image.Image:
    return pictures.photo(160, 120, seed=seed).resize((160, 120))


def saved(image: Image.Image, form: str = "JPEG", **how) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


@pytest.fixture
def source(tmp_path):
    """Two tars: eight pictures, then copies of the first four: the bytes, the pixels, smaller, mirrored."""
    originals = [saved(picture(i), "PNG") for i in range(8)]
    first = [(f"a{i}", "png", data, f"a {WORDS[i % 3]} on a table") for i, data in enumerate(originals)]
    second = [
        ("b0", "png", originals[0], "a red ball on a table"),
        ("b1", "png", saved(picture(1), "PNG", compress_level=1), "another green boat"),
        ("b2", "jpg", saved(picture(2).resize((120, 90)), quality=70), "a blue kite on a table"),
        ("b3", "png", saved(picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG"), "a red ball"),
        ("b4", "png", b"no picture", "a green boat"),
        ("b5", "png", b"no picture", "a green boat"),
    ]
    one, two = (worlds.tar_file(tmp_path / f"{n}.tar", s) for n, s in (("one", first), ("two", second)))
    return SourceSettings(kind="webdataset", urls=[*one.url_list(), *two.url_list()])


def built(source, out: Path, runner=None, **wanted):
    settings = worlds.settings(out, source, duplicates=DuplicateSettings(**wanted), reject_budget=0.5)
    return settings, build(settings, runner or LocalRunner())


def table(out: Path) -> list[dict]:
    return storage.read_table(Layout(str(out)).duplicates).to_pylist()


def name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        ({"images": "bytes"}, {"b0": ("a0", "duplicate_image"), "b5": ("b4", "duplicate_image")}),
        ({"images": "pixels"}, {"b0": ("a0", "duplicate_image"), "b1": ("a1", "duplicate_image")}),
        (
            {"images": "near"},
            {"b0": ("a0", "duplicate_image"), "b1": ("a1", "near_duplicate"), "b2": ("a2", "near_duplicate")},
        ),
        ({"images": "near", "mirrored": True}, {
            "b0": ("a0", "duplicate_image"), "b1": ("a1", "near_duplicate"), "b2": ("a2", "near_duplicate"),
            "b3": ("a3", "near_duplicate"),
        }),
        ({"pairs": "pixels"}, {"b0": ("a0", "duplicate_pair")}),
    ],
)  # fmt: skip
def test_each_level_finds_its_copies_and_the_first_stays(source, tmp_path, color_teacher, wanted, gone):
    settings, summary = built(source, tmp_path / "out", **wanted)
    rows = table(tmp_path / "out")
    assert {name(r["source_key"]): (name(r["kept"]), r["reason"]) for r in rows} == gone
    by_reason = summary["rejects_by_reason"]
    # where images are decoded, bad ones are no duplicates of each other
    assert by_reason.pop("not_an_image") == 2 - ("b5" in gone)
    assert sum(by_reason.values()) == len(gone)
    dataset = {name(s.meta["source_key"]): s.key for s in Dataset.open(settings.out).samples()}
    assert not set(dataset) & set(gone)
    assert all(dataset[name(r["kept"])] == r["kept_key"] for r in rows if name(r["kept"]) != "b4")
    assert list(verify(settings.out)) == []
    rejects = storage.read_table(Layout(settings.out).rejects).to_pylist()
    assert all(
        any(r["kept"] in reject["detail"] for reject in rejects if reject["source_key"] == r["source_key"])
        for r in rows
    )


def test_any_number_of_workers_gives_the_same_bytes(source, tmp_path, color_teacher, monkeypatch):
    for_each = {"images": "near", "mirrored": True, "pairs": "bytes"}
    built(source, tmp_path / "one", **for_each)
    monkeypatch.setattr(find, "HASHES_A_TASK", 3)  # several shares
    built(source, tmp_path / "two", TwoAtOnce(), **for_each)
    for pattern in ("shards/*", "index/*", "duplicates.parquet", "plan/index/*", "rejects.parquet"):
        assert worlds.hashes(tmp_path / "one", pattern) == worlds.hashes(tmp_path / "two", pattern)
        assert worlds.hashes(tmp_path / "one", pattern)


def test_a_pair_is_an_image_with_a_caption(tmp_path, color_teacher):
    one = worlds.coco_folder(tmp_path / "source", n=3)
    data = Path(one.images or "", "000.jpg").read_bytes()
    for i in (1, 2):
        Path(one.images or "", f"00{i}.jpg").write_bytes(data)
    captions = Path(one.captions or "")
    text = captions.read_text().replace("a green boat on a table", "A  red ball on a TABLE")
    captions.write_text(
        text.replace("the kite is blue", "the ball is red").replace("a blue kite", "a red ball")
    )
    settings = worlds.settings(
        tmp_path / "out", one, duplicates=DuplicateSettings(pairs="bytes"), pool=PoolSettings(min_count=1)
    )
    summary = build(settings, LocalRunner())
    assert summary["rejects_by_reason"] == {"duplicate_pair": 1}  # the third says what the first says
    kept = [
        s.meta["captions"]
        for s in sorted(Dataset.open(settings.out).samples(), key=lambda s: s.meta["source_key"])
    ]
    assert sorted(kept) == [["a red ball on a table", "the ball is red"], ["the boat is green"]]
    assert next(r["caption"] for r in table(tmp_path / "out")) == "A  red ball on a TABLE"


def test_images_of_a_list_are_left_out_and_the_list_counts_by_content(source, tmp_path, color_teacher):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "val.jpg").write_bytes(saved(picture(5), quality=60))
    (folder / "broken.jpg").write_bytes(b"no picture")
    listed = tmp_path / "val.hashes"
    assert cli.main(["hashes", str(folder), "--out", str(listed)]) == 1  # one is broken, and said to be
    assert HeldOut.read([str(listed)]).names == ["val.jpg"]
    (folder / "other.jpg").write_bytes(saved(picture(6)))
    (tmp_path / "instances.json").write_text(json.dumps({"images": [{"file_name": "val.jpg"}]}))
    by_coco = ["hashes", str(folder), "--coco", str(tmp_path / "instances.json"), "--out"]
    assert (
        cli.main([*by_coco, str(tmp_path / "coco.hashes")]) == 0
    )  # neither the broken nor the other one is listed
    assert (tmp_path / "coco.hashes").read_bytes() == listed.read_bytes()
    settings, summary = built(source, tmp_path / "out", held_out=[str(listed)])
    assert summary["rejects_by_reason"]["held_out_image"] == 1
    (row,) = table(tmp_path / "out")
    assert (name(row["source_key"]), row["kept"], row["kept_key"]) == ("a5", "val.jpg", "")
    listed.write_text(HEAD)
    with pytest.raises(Refused, match="held_out"):
        build(settings, LocalRunner())
    listed.write_text("what?\n")
    with pytest.raises(ValueError, match=r"val\.hashes, line 1"):
        built(source, tmp_path / "other", held_out=[str(listed)])


def test_a_build_that_was_cut_short_anywhere_gives_the_same(source, tmp_path, color_teacher, monkeypatch):
    settings, _ = built(source, tmp_path / "whole", images="near")
    before = {p: worlds.hashes(tmp_path / "whole", p) for p in ("shards/*", "duplicates.parquet")}
    again = dataclasses.replace(settings, out=str(tmp_path / "again"))
    layout = Layout(again.out)

    class Cut(LocalRunner):
        def __init__(self, at: str):
            self.at = at

        def map(self, function, items, slow=False):
            for item in items:
                if getattr(getattr(function, "func", function), "__name__", "") == self.at and item == 1:
                    raise KeyboardInterrupt
                yield function(item)

    for at in ("hash_unit", "held_out_of", "_mark_duplicates"):
        with pytest.raises(KeyboardInterrupt):
            build(again, Cut(at))
    assert storage.exists(layout.duplicates)
    assert not storage.exists(layout.plan)
    build(again, LocalRunner())
    assert {p: worlds.hashes(tmp_path / "again", p) for p in before} == before
    # a damaged index is made anew by the table; a damaged table is made anew from the images
    Path(layout.unit_index(1)).write_bytes(b"")
    Path(sorted((tmp_path / "again/manifest").glob("*"))[-1]).unlink()
    build(again, LocalRunner())
    assert list(verify(again.out)) == []
    Path(layout.duplicates).write_bytes(b"")
    assert any("duplicates.parquet" in line for line in verify(again.out))
    build(again, LocalRunner())
    assert list(verify(again.out)) == []
    assert {p: worlds.hashes(tmp_path / "again", p) for p in before} == before


def test_a_missing_library_is_one_line(source, tmp_path, monkeypatch):
    from pipeline.duplicates.hashes import library

    library.cache_clear()
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(ModuleNotFoundError, match=r"regionpairs\[duplicates\]"):
        built(source, tmp_path / "out", images="near")
    with pytest.raises(ValueError, match=r"duplicates\.images"):
        DuplicateSettings(images="alike")
    with pytest.raises(ValueError, match=r"duplicates\.distance"):
        DuplicateSettings(distance=17)


def test_a_block_list_takes_perceptual_hashes(tmp_path):
    original = saved(picture(1), "PNG")
    *_, near, _ = of_image(original, False, True, 10**8)
    small = saved(picture(1).resize((80, 60)), quality=60)
    listed = BlockList(frozenset({f"near:{near:016x}/6"}))
    assert listed.has_images
    assert listed.entry_of_image(original) == listed.entry_of_image(small) == f"near:{near:016x}/6"
    assert listed.entry_of_image(saved(picture(2), "PNG")) == listed.entry_of_image(b"no picture") == ""
    assert BlockList(frozenset({f"near:{near ^ 1:016x}"})).entry_of_image(original) == ""
    with pytest.raises(BadSample, match="blocked"):
        listed.check_image("key", small)
