"""Each format through the reader that people use, or against its published schema; counts are the manifest's."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import duckdb
import jsonschema
import numpy as np
import pytest

from exports import FORMATS
from exports.export import export
from exports.pairs import pairs_of
from jobs import cli
from pipeline.build import build
from pipeline.coco import read_coco
from pipeline.dataset import Dataset, manifest
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.sources.settings import SourceSettings
from tests.pipeline import worlds


def count(dataset, name: str) -> int:
    return sum(manifest.rows_of(dataset.layout).column(name).to_pylist())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("form", FORMATS)
def test_counts_are_the_manifests_and_images_are_the_original_bytes(dataset, tmp_path, form):
    record = export(dataset, form, str(tmp_path / "out"), images=True)
    assert record["n_samples"] == count(dataset, "n_samples") == 13
    assert record["n_pairs"] + record["n_left_out"] == count(dataset, "n_pairs") > 20
    assert json.loads((tmp_path / "out/export.json").read_text()) == record
    images = {path.name: path.read_bytes() for path in (tmp_path / "out/images").iterdir()}
    assert images == {f"{s.key}.{s.extension}": s.image for s in dataset.samples()}


def test_coco_opens_in_pycocotools_and_boxes_are_right_to_a_pixel(dataset, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    export(dataset, "coco", str(tmp_path / "out"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "out/instances.json"))
        found = truth.loadRes(str(tmp_path / "out/results.json"))
        scored = COCOeval(truth, found, "bbox")
        scored.params.maxDets = [1, 100, 1000]
        scored.evaluate()
        scored.accumulate()
    precision = scored.eval["precision"][..., 0, -1]
    np.testing.assert_allclose(precision[precision >= 0], 1)  # results against themselves
    assert len(found.anns) == count(dataset, "n_pairs")
    for i, sample in enumerate(dataset.samples(), start=1):
        image = truth.imgs[i]
        assert image["file_name"] == f"{sample.key}.{sample.extension}"
        size = np.array([image["width"], image["height"]] * 2)
        for pair, box in zip(pairs_of(sample), truth.imgToAnns[i], strict=True):
            x, y, w, h = box["bbox"]
            np.testing.assert_allclose([x, y, x + w, y + h], np.array(pair.box_xyxy_norm) * size, atol=0.02)
            assert truth.cats[box["category_id"]]["name"] == pair.concept


def test_coco_is_read_by_our_own_reader_of_coco(dataset, tmp_path):
    export(dataset, "coco", str(tmp_path / "out"))
    boxes, captions = (read_coco(str(tmp_path / f"out/{name}.json")) for name in ("instances", "captions"))
    assert not boxes.skipped
    assert not captions.skipped
    assert not [image for image in boxes.images if image.problem]
    for i, sample in enumerate(dataset.samples(), start=1):
        assert captions.captions[str(i)] == sample.meta["captions"]
        found = [boxes.categories[box.category_id] for box in boxes.boxes.get(str(i), [])]
        assert found == [pair.concept for pair in pairs_of(sample)]


def test_a_build_of_the_coco_export_has_the_same_images_captions_and_boxes_to_a_pixel(dataset, tmp_path):
    """`source.kind coco` for images and captions, `localizer.kind ground-truth` for the boxes."""
    export(dataset, "coco", str(tmp_path / "out"), images=True)
    source = SourceSettings("coco", str(tmp_path / "out/images"), str(tmp_path / "out/captions.json"))
    truth = LocalizerSettings("ground-truth", truth=str(tmp_path / "out/instances.json"))
    settings = worlds.settings(tmp_path / "again", source, localizer=truth)
    assert build(settings, LocalRunner())["n_samples"] == 13
    again = {s.meta["source_key"]: s for s in Dataset.open(settings.out).samples()}
    n_boxes = 0
    for sample in dataset.samples():
        other = again[f"{sample.key}.{sample.extension}"]
        assert (other.image, other.meta["captions"]) == (sample.image, sample.meta["captions"])
        wanted = np.array([pair.box_xyxy_norm for pair in pairs_of(sample)]).reshape(-1, 4)
        if not len(wanted):
            continue  # then there is the box of the whole image
        size = np.array([sample.meta["width"], sample.meta["height"]] * 2)
        off = (wanted[:, None] - other.arrays["boxes_xyxy_norm"][None]) * size  # the largest come first there
        nearest = np.abs(off).max(axis=2)
        assert len(wanted) == len(other.arrays["boxes_xyxy_norm"])
        assert nearest.min(axis=1).max() < 0.05
        assert nearest.min(axis=0).max() < 0.05
        n_boxes += len(wanted)
    assert n_boxes == count(dataset, "n_pairs")


_SPAN = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
#: docs of MM-Grounding-DINO: `dataset_prepare.md`, "ODVG"; and what `ODVGDataset` reads.
ODVG = {
    "type": "object",
    "required": ["filename", "height", "width", "grounding"],
    "additionalProperties": False,
    "properties": {
        "filename": {"type": "string"},
        "height": {"type": "integer", "minimum": 1},
        "width": {"type": "integer", "minimum": 1},
        "grounding": {
            "type": "object",
            "required": ["caption", "regions"],
            "additionalProperties": False,
            "properties": {
                "caption": {"type": "string", "minLength": 1},
                "regions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["bbox", "phrase", "tokens_positive"],
                        "additionalProperties": False,
                        "properties": {
                            "bbox": {
                                "type": "array",
                                "items": {"type": "number"},
                                "minItems": 4,
                                "maxItems": 4,
                            },
                            "phrase": {"type": "string", "minLength": 1},
                            "tokens_positive": {"type": "array", "items": _SPAN, "minItems": 1},
                        },
                    },
                },
            },
        },
    },
}


def test_odvg_meets_its_published_schema_and_spans_are_the_phrases(dataset, tmp_path):
    export(dataset, "odvg", str(tmp_path / "out"))
    records = lines(tmp_path / "out/odvg.jsonl")
    for record, sample in zip(records, dataset.samples(), strict=True):
        jsonschema.validate(record, ODVG)
        caption = record["grounding"]["caption"]
        pairs = pairs_of(sample)
        for region, pair in zip(record["grounding"]["regions"], pairs, strict=True):
            x0, y0, x1, y1 = region["bbox"]
            assert 0 <= x0 < x1 <= record["width"]
            assert 0 <= y0 < y1 <= record["height"]
            (start, end) = region["tokens_positive"][0]
            assert caption[start:end] == region["phrase"]
            if not pair.mentions:
                assert region["phrase"] == pair.concept


def test_grit_has_the_published_fields_and_its_chunks_lie_in_the_caption(dataset, tmp_path):
    record = export(dataset, "grit", str(tmp_path / "out"))
    rows = lines(tmp_path / "out/grit.jsonl")
    assert sum(len(row["noun_chunks"]) for row in rows) == record["n_pairs"]
    for row in rows:
        assert set(row) == {"key", "url", "caption", "width", "height", "noun_chunks", "ref_exps"}
        for start, end, x0, y0, x1, y1, score in row["noun_chunks"]:
            assert 0 <= start < end <= len(row["caption"])
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1
            assert 0 < score <= 1


def test_yolo_world_gives_every_box_a_text_of_its_images_caption(dataset, tmp_path):
    export(dataset, "yolo-world", str(tmp_path / "out"))
    document = json.loads((tmp_path / "out/yolo_world.json").read_text("utf-8"))
    captions = {image["id"]: image["caption"] for image in document["images"]}
    ids = [box["id"] for box in document["annotations"]]
    assert ids == list(range(1, count(dataset, "n_pairs") + 1))
    for box in document["annotations"]:
        assert box["area"] > 0
        (span,) = box["tokens_positive"]
        assert captions[box["image_id"]][slice(*span)]
        assert box["category_id"] == 1


def test_the_one_liners_of_the_docs_run_in_duckdb(dataset, tmp_path, monkeypatch):
    export(dataset, "parquet", str(tmp_path / "OUT"))
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/exports.md").read_text("utf-8")
    queries = [block.split("```")[0] for block in page.split("```sql\n")[1:]]
    assert len(queries) >= 2
    results = [duckdb.sql(query).fetchall() for query in queries]
    expected: dict[str, int] = {}
    for sample in dataset.samples():
        for pair in pairs_of(sample):
            expected[pair.concept] = expected.get(pair.concept, 0) + 1
    assert dict(row[:2] for row in results[0]) == expected


def test_hugging_face_loads_the_folder_with_images_objects_and_both_splits(dataset, tmp_path):
    import datasets

    export(dataset, "hf", str(tmp_path / "out"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "viewer"}
    assert len(loaded["train"]) == len(loaded["viewer"]) == 13
    assert sum(len(row) for row in loaded["train"]["objects"]) == count(dataset, "n_pairs")
    row, sample = loaded["train"][0], next(iter(dataset.samples()))
    assert row["image"].convert("RGB").size == (sample.meta["width"], sample.meta["height"])
    assert row["captions"] == sample.meta["captions"]
    assert [o["concept"] for o in row["objects"]] == [p.concept for p in pairs_of(sample)]


def test_the_card_names_counts_models_and_rejects(dataset, tmp_path):
    export(dataset, "hf", str(tmp_path / "out"))
    card = (tmp_path / "out/README.md").read_text("utf-8")
    for part in (
        "| images | 13 (of 14 read) |",
        "1 not_an_image",
        dataset.fingerprint,
        '"kind": "grid"',
        "n<1K",
    ):
        assert part in card


def test_a_folder_that_holds_anything_is_refused(dataset, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        export(dataset, "grit", str(tmp_path / "out"))


def test_a_damaged_shard_leaves_no_export(dataset, tmp_path, monkeypatch):
    first = Path(dataset.shards[-1].url)
    data = first.read_bytes()
    first.write_bytes(data[:-1] + b"x")
    try:
        with pytest.raises(ValueError, match="damaged"):
            export(dataset, "odvg", str(tmp_path / "out"))
    finally:
        first.write_bytes(data)
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_the_command_says_what_was_written(dataset, tmp_path, capsys):
    assert cli.main(["export", dataset.url, "--format", "odvg", "--out", str(tmp_path / "o")]) == 0
    assert f"13 images, {count(dataset, 'n_pairs')} pairs" in capsys.readouterr().out
    assert cli.main(["export", dataset.url, "--format", "odvg", "--out", str(tmp_path / "o")]) == 2
    with pytest.raises(SystemExit) as e:
        cli.main(["export", dataset.url, "--format", "voc", "--out", str(tmp_path / "p")])
    assert e.value.code == 2
