"""The reader of COCO JSON: one bad record costs that record, and a file that is none is one line."""

from __future__ import annotations

import gzip
import json
import random

import pytest

from pipeline.coco import coco_of, read_coco


def document(**more):
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(3)],
        "annotations": [
            {"id": 10 + i, "image_id": i, "caption": f"a dog {i}", "bbox": [4, 4, 20, 20], "category_id": 1}
            for i in range(3)
        ],
        "categories": [{"id": 1, "name": "dog", "frequency": "r"}],
        **more,
    }


def test_what_a_sound_file_holds():
    coco = coco_of(document())
    assert [(i.id, i.file_name, i.width, i.height, i.problem) for i in coco.images][1] == (
        "1",
        "1.jpg",
        64,
        48,
        "",
    )
    assert coco.captions == {"0": ["a dog 0"], "1": ["a dog 1"], "2": ["a dog 2"]}
    assert (coco.boxes["2"][0].id, coco.boxes["2"][0].xywh) == ("12", (4.0, 4.0, 20.0, 20.0))
    assert (coco.categories, coco.frequencies) == ({1: "dog"}, {1: "r"})
    assert not coco.skipped


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"), (b" \n", "it is empty"), (b"{", "line 1, column 2"),
        (b"[1]", "neither a list"), (b"{}", "neither a list"),
        (b'{"images": {"0": 1}, "annotations": []}', "`images` is no list"), (b"[" * 100_000, "inside each other"),
        (b'{"images": [' + b"9" * 5000 + b"]}", "digits"), (b"\xff\xd8\xff\xe0 a jpeg", "line 1"),
        (gzip.compress(b'{"images": []}', mtime=0)[:-9], "COCO JSON"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_one_short_line(tmp_path, data, says):
    (tmp_path / "c.json").write_bytes(data)
    with pytest.raises(ValueError, match=says) as e:
        read_coco(str(tmp_path / "c.json"))
    assert str(e.value).startswith(f"{tmp_path}/c.json is no COCO JSON: ")
    assert len(str(e.value)) < 300
    with pytest.raises(ValueError, match="it is a folder"):
        read_coco(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_byte_order_marks_and_other_encodings(tmp_path, encoding):
    text = json.dumps(document(), ensure_ascii=False)
    (tmp_path / "c.json").write_bytes(text.encode(encoding))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(text.encode(encoding)))
    for name in ("c.json", "c.json.gz"):
        assert len(read_coco(str(tmp_path / name)).captions) == 3


def test_a_bad_byte_in_a_caption_costs_a_letter(tmp_path):
    (tmp_path / "c.json").write_bytes(json.dumps(document()).encode().replace(b"a dog 1", b"a d\xe9g 1"))
    assert read_coco(str(tmp_path / "c.json")).captions["1"] == ["a d\ufffdg 1"]


def test_ids_as_text_and_as_numbers_are_one():
    for ids in (["0", "1", "2"], [0.0, 1.0, 2.0], ["000", "001", "002"]):
        images = [{"id": i, "file_name": "x"} for i in ids]
        coco = coco_of(document(images=images))
        assert [coco.captions[i.id] for i in coco.images] == [["a dog 0"], ["a dog 1"], ["a dog 2"]]


def test_text_ids_that_are_two_stay_two():
    images = [{"id": "7", "file_name": "a"}, {"id": "07", "file_name": "b"}]
    annotations = [{"image_id": "7", "caption": "one"}, {"image_id": "07", "caption": "two"}]
    assert coco_of({"images": images, "annotations": annotations}).captions == {"7": ["one"], "07": ["two"]}


def test_an_id_of_two_files_belongs_to_neither():
    images = [
        {"id": 1, "file_name": "a.jpg"},
        {"id": "1", "file_name": "b.jpg"},
        {"id": 2, "file_name": "c.jpg"},
    ]
    problems = [i.problem for i in coco_of(document(images=images)).images]
    assert problems == [
        "duplicate_id: id 1 is also that of b.jpg",
        "duplicate_id: id 1 is also that of a.jpg",
        "",
    ]
    again = [{"id": 1, "file_name": "a.jpg"}] * 2
    assert not any(i.problem for i in coco_of(document(images=again)).images)


def test_malformed_images_say_what_is_wrong():
    images = [
        7, None, {"file_name": "a.jpg"}, {"id": 1}, {"id": True, "file_name": "b.jpg"}, {"id": 2, "file_name": 3},
        {"id": 3, "coco_url": "http://images.cocodataset.org/val2017/0%201.jpg?x=1"},
        {"id": 4, "file_name": "d.jpg", "width": "640", "height": -1},
    ]  # fmt: skip
    found = coco_of(document(images=images)).images
    assert [i.problem.partition(":")[0] for i in found] == ["bad_record"] * 6 + ["", ""]
    assert "has no id" in found[2].problem
    assert "has no file_name" in found[3].problem
    assert found[6].file_name == "0 1.jpg"
    assert (found[7].width, found[7].height) == (640, 0)


def test_malformed_annotations_are_skipped_and_counted():
    annotations = [
        17, {"id": 1}, {"image_id": 0}, {"image_id": 0, "caption": None}, {"image_id": 0, "caption": 1984},
        {"image_id": 1, "bbox": [1, 2, 3]}, {"image_id": 1, "bbox": [1, 2, float("nan"), 4]},
        {"image_id": 1, "bbox": [1, 2, 0, 4]}, {"image_id": 1, "bbox": ["1", 2, 3, 4]}, {"image_id": 9, "caption": "x"},
        {"image_id": 2, "bbox": [1, 2, 3, 4], "category_id": "7", "iscrowd": 1}, {"image_id": [], "caption": "x"},
    ]  # fmt: skip
    coco = coco_of(document(annotations=annotations, categories=[3, {"name": "x"}, {"id": 2}]))
    assert coco.captions == {"0": ["1984"], "9": ["x"]}
    assert list(coco.boxes) == ["2"]
    assert (coco.boxes["2"][0].category_id, coco.boxes["2"][0].crowd) == (7, True)
    assert coco.skipped["annotations whose bbox is no box"] == 4
    assert coco.categories == {2: "2"}
    assert "e.g. annotation" in coco.why()


def mutated(value, rng):
    """A JSON value with some of its parts exchanged for odd ones."""
    odd = [
        None,
        True,
        -1,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        [],
        {},
        [[]],
        {"a": 1},
        "\ud83d",
        10**300,
        "\0",
    ]
    if rng.random() < 0.06:
        return rng.choice(odd)
    if isinstance(value, list):
        return [mutated(v, rng) for v in value if rng.random() > 0.03]
    if isinstance(value, dict):
        return {k: mutated(v, rng) for k, v in value.items() if rng.random() > 0.05}
    return value


def test_mutated_files_never_end_in_anything_but_a_line():
    rng = random.Random(0)
    for _ in range(300):
        try:
            coco = coco_of(mutated(document(), rng))
        except ValueError:
            continue
        for image in coco.images:
            (image.id + image.file_name + image.problem).encode()
