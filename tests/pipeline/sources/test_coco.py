"""COCO folders: what the JSON lists is found whatever it calls it, and nothing above the folder is."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest

import storage
from pipeline import sources
from pipeline.images import BadSample
from pipeline.sources import InputChanged, SourceSettings
from tests.pipeline.sources.kit import coco, outcome, rows, usable, write_coco


def changed(root, change, n=5):
    """A COCO folder whose document `change` altered in place."""
    document = write_coco(root, n)
    change(document)
    (root / "captions.json").write_text(json.dumps(document))
    return sources.load(SourceSettings("coco", str(root / "images"), str(root / "captions.json")))


def test_captions_of_any_type_cost_nobody_else(tmp_path):
    odd = [1984, None, {"en": "a dog"}, ["a", "b"], "half \ud83d", "\u200b", "x\0y\x1b[2J"]

    def change(document):
        for annotation, caption in zip(document["annotations"], odd, strict=True):
            annotation["caption"] = caption

    found = outcome(changed(tmp_path, change, len(odd)))
    assert list(found.values()) == [
        ("", ["1984"]), ("empty_caption", []), ("", ["a dog"]), ("", ["a", "b"]), ("", ["half \ufffd"]),
        ("empty_caption", []), ("", ["x y [2J"]),
    ]  # fmt: skip


def test_an_annotation_without_a_caption_costs_its_image(tmp_path):
    found = outcome(changed(tmp_path, lambda d: d["annotations"][3].pop("caption")))
    assert [reason for reason, _ in found.values()] == ["", "", "", "no_caption", ""]


def test_an_image_without_a_name_is_a_row(tmp_path):
    found = outcome(changed(tmp_path, lambda d: d["images"][3].pop("file_name")))
    assert [reason for reason, _ in found.values()].count("") == 4
    assert found["images[3]"][0] == "bad_record"


def test_the_instances_file_in_place_of_the_captions_is_one_line(tmp_path):
    def change(document):
        for annotation in document["annotations"]:
            del annotation["caption"]
            annotation["bbox"] = [1, 2, 3, 4]

    with pytest.raises(ValueError, match=r"captions\.json holds no captions; is it the instances file"):
        rows(changed(tmp_path, change))


def test_links_subfolders_and_decomposed_accents(tmp_path):
    document = write_coco(tmp_path)
    images, blobs = tmp_path / "images", tmp_path / "blobs"
    images.rename(blobs)
    (images / "train" / "deep").mkdir(parents=True)
    (images / "train" / "deep" / "0.jpg").symlink_to(blobs / "0.jpg")
    (images / "train" / "1.jpg").symlink_to(blobs / "1.jpg")
    (images / "more").symlink_to(blobs)
    (images / unicodedata.normalize("NFD", "caf\u00e9.jpg")).write_bytes(b"coffee")
    (images / "gone.jpg").symlink_to(blobs / "gone.jpg")
    names = ["train/deep/0.jpg", "./train//1.jpg", "more/2.jpg", "caf\u00e9.jpg", "gone.jpg"]
    for image, name in zip(document["images"], names, strict=True):
        image["file_name"] = name
    (tmp_path / "captions.json").write_text(json.dumps(document))
    source = sources.load(SourceSettings("coco", str(images), str(tmp_path / "captions.json")))
    assert usable(source) == {
        unicodedata.normalize("NFD", "caf\u00e9.jpg"): b"coffee",
        "train/1.jpg": b"jpeg 1", "more/2.jpg": b"jpeg 2", "train/deep/0.jpg": b"jpeg 0",
    }  # fmt: skip
    assert outcome(source)["gone.jpg"][0] == "missing_file"


def test_absolute_windows_and_url_forms(tmp_path):
    names = [
        str(tmp_path / "images" / "0.jpg"), "train\\1.jpg", (tmp_path / "images" / "a b.jpg").as_uri(),
        (tmp_path / "images" / "50%20.jpg").as_uri(), "re::zero.jpg", "back\\slash.jpg", "x?y#z [1].jpg",
    ]  # fmt: skip

    def change(document):
        for image, name in zip(document["images"], names, strict=True):
            image["file_name"] = name

    source = changed(tmp_path, change, len(names))
    (tmp_path / "images" / "train").mkdir()
    for name in ("train/1.jpg", "a b.jpg", "50%20.jpg", "re::zero.jpg", "back\\slash.jpg", "x?y#z [1].jpg"):
        (tmp_path / "images" / name).write_bytes(name.encode())
    found = usable(source)
    assert len(found) == 7, outcome(source)
    assert found["train/1.jpg"] == b"train/1.jpg"
    assert found["back\\slash.jpg"] == b"back\\slash.jpg"
    assert found["50%20.jpg"] == b"50%20.jpg"


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x.jpg", "zip://a::http://x/y",
     "s3://other/x.jpg", "C:\\images\\0.jpg", "\\\\server\\x.jpg", "..\\secret.jpg", "file:///../secret.jpg", "file://%2e%2e/secret.jpg"],
)  # fmt: skip
def test_nothing_outside_of_the_folder_is_found(tmp_path, name):
    (tmp_path / "secret.jpg").write_bytes(b"secret")

    def change(document):
        document["images"][0]["file_name"] = name

    source = changed(tmp_path, change, 2)
    (row,) = [r for r in rows(source) if r["problem"]]
    assert row["problem"].startswith(("outside_root: ", "missing_file: "))
    assert row["location"] == ""


def test_odd_names_of_files(tmp_path):
    odd = ["", " ", "a\0b", ".", "/", "0.jpg/", "0.jpg/x"]

    def change(document):
        for image, name in zip(document["images"], odd, strict=True):
            image["file_name"] = name

    found = outcome(changed(tmp_path, change, len(odd)))
    reasons = [reason for reason, _ in found.values()]
    assert set(reasons) - {""} <= {"bad_record", "bad_path", "outside_root", "missing_file"}
    assert reasons.count("") <= 1  # "0.jpg/" is 0.jpg


def test_a_file_listed_twice_is_one_sample_with_all_captions(tmp_path):
    def change(document):
        document["images"][1]["file_name"] = "0.jpg"
        document["annotations"] = document["annotations"][1:]

    listed = rows(changed(tmp_path, change, 3))
    assert [(r["source_key"], r["captions"], r["problem"]) for r in listed] == [
        ("0.jpg", ["a dog 1"], ""), ("2.jpg", ["a dog 2"], ""), ("0.jpg", ["a dog 1"], "duplicate_key"),
    ]  # fmt: skip


def test_two_images_of_one_id_are_rejected(tmp_path):
    def change(document):
        for image in document["images"]:
            image["id"] %= 2

    assert {reason for reason, _ in outcome(changed(tmp_path, change, 4)).values()} == {"duplicate_id"}


def test_the_identity_is_what_the_json_lists(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "images" / "sub").mkdir()
    source = sources.load(SourceSettings("coco", str(tmp_path / "images"), str(tmp_path / "captions.json")))

    def identity():
        return sources.load(
            SourceSettings("coco", str(tmp_path / "images"), str(tmp_path / "captions.json"))
        ).identity()

    before = identity()
    assert source.identity() == before
    for litter in (".DS_Store", "unlisted.jpg", "sub/unlisted.jpg"):
        (tmp_path / "images" / litter).write_bytes(b"x")
    assert identity() == before
    (tmp_path / "images" / "3.jpg").write_bytes(b"other")
    assert identity() != before


def test_a_folder_may_move_between_two_runs_and_must_be_there(tmp_path):
    source = coco(tmp_path / "one")
    listed, identity = rows(source), source.identity()
    (tmp_path / "one").rename(tmp_path / "two")
    moved = sources.load(
        SourceSettings("coco", str(tmp_path / "two" / "images"), str(tmp_path / "two" / "captions.json"))
    )
    assert (rows(moved), moved.identity()) == (listed, identity)
    assert moved.read(listed[2]) == b"jpeg 2"
    moved.check()
    with pytest.raises(FileNotFoundError, match="is not there"):
        source.check()
    with pytest.raises(FileNotFoundError):
        source.read(listed[2])


def test_a_file_that_went_or_changed_after_the_plan_is_no_reject(tmp_path):
    source = coco(tmp_path)
    listed = rows(source)
    (tmp_path / "images" / "1.jpg").unlink()
    (tmp_path / "images" / "2.jpg").write_bytes(b"longer than before")
    for i in (1, 2):
        with pytest.raises(InputChanged):
            source.read(listed[i])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_no_reject(tmp_path):
    source = coco(tmp_path)
    listed = rows(source)
    (tmp_path / "images" / "1.jpg").chmod(0)
    with pytest.raises(PermissionError):
        source.read(listed[1])


def test_an_error_of_the_moment_propagates(tmp_path, monkeypatch):
    source = coco(tmp_path)
    listed = rows(source)

    def fail(*_, **__):
        raise storage.Unavailable("503")

    monkeypatch.setattr(storage, "read_bytes", fail)
    with pytest.raises(storage.Unavailable):
        source.read(listed[0])


def test_units_are_slices_that_share_one_reading(tmp_path, monkeypatch):
    from pipeline.sources import coco as module

    monkeypatch.setattr(module, "UNIT_IMAGES", 2)
    calls = []
    honest = module.read_coco
    monkeypatch.setattr(module, "read_coco", lambda *a: calls.append(a) or honest(*a))
    module._remembered.cache_clear()
    source = coco(tmp_path)
    units = source.units()
    assert [(u.start, u.stop) for u in units] == [(0, 2), (2, 4), (4, 5)]
    settings = SourceSettings("coco", str(tmp_path / "images"), str(tmp_path / "captions.json"))
    listed = [r for u in units for r in sources.load(settings).index(u)]
    assert [r["source_key"] for r in listed] == [f"{i}.jpg" for i in range(5)]
    assert len(calls) == 1
    write_coco(tmp_path, 3)
    assert len(rows(sources.load(settings))) == 3


def test_without_a_folder_there_are_captions_alone(tmp_path):
    write_coco(tmp_path)
    settings = SourceSettings("coco", captions=str(tmp_path / "captions.json"))
    with pytest.raises(ValueError, match=r"source\.images: kind coco needs a folder of images"):
        sources.load(settings)
    assert [r["source_key"] for r in rows(sources.load(settings, captions_only=True))] == [
        "0",
        "1",
        "2",
        "3",
        "4",
    ]


def test_a_path_of_nobody_is_a_bad_sample():
    from pipeline.sources.image_folder import ImageFolder

    for name in (None, 7, "", "\0"):
        with pytest.raises(BadSample):
            ImageFolder("/nowhere", "source.images").find(name)
