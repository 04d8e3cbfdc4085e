"""A model that raises: for one sample it costs that sample, for the machine it costs the part."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import teachers
from pipeline.build import Incomplete, build
from pipeline.dataset import Dataset, records
from pipeline.dataset.verify import verify
from pipeline.filters import FilterSettings
from pipeline.images import decode
from pipeline.run_local import LocalRunner
from pipeline.stages.annotate import _with_images
from pipeline.stages.annotator import MAX_TEXT, MAX_WORD, readable
from pipeline.teachers.tower import SeesRegions
from tests import pictures
from tests.fakes import ColorTeacher
from tests.pipeline import worlds

ODD = (13, 17)


class Failing(ColorTeacher):
    """Raises for a picture of one odd size."""

    def __init__(self, error: Exception):
        self.error = error

    def encode_regions(self, images, boxes_xyxy_norm):
        if any(image.shape[:2] == ODD for image in images):
            raise self.error
        return super().encode_regions(images, boxes_xyxy_norm)


@pytest.fixture
def source(tmp_path):
    found = worlds.coco_folder(tmp_path / "input", 20)
    (Path(found.images) / "008.jpg").write_bytes(pictures.encode(pictures.photo(ODD[1], ODD[0])))
    return found


def test_a_sample_that_makes_a_model_raise_costs_that_sample_alone(tmp_path, source, monkeypatch):
    monkeypatch.setattr(teachers, "load", lambda settings: Failing(ValueError("a singular matrix")))
    summary = build(worlds.settings(tmp_path / "out", source), LocalRunner())
    assert (summary["n_samples"], summary["rejects_by_reason"]) == (19, {"model_error": 1})
    assert list(verify(str(tmp_path / "out"))) == []


class Colors:
    """In a tower's place: takes prepared images alone."""

    def regions(self, images, boxes_xyxy_norm):
        assert all(isinstance(image, torch.Tensor) for image in images)
        return ColorTeacher().encode_regions([image.numpy() for image in images], boxes_xyxy_norm)


class Preparing(SeesRegions):
    """Prepares images, and knows by which threads; raises for a picture of one odd size."""

    dim, logit_scale = ColorTeacher.dim, ColorTeacher.logit_scale
    encode_text = ColorTeacher.encode_text

    def __init__(self, error: Exception | None = None):
        self.error, self.threads, self._regions = error, set(), Colors()

    def prepare(self, image):
        self.threads.add(threading.current_thread().name.split("_")[0])
        if self.error and image.shape[:2] == ODD:
            raise self.error
        return torch.from_numpy(image.copy())


def test_what_a_teacher_can_do_ahead_the_threads_that_decode_do(tmp_path, source, monkeypatch):
    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())
    build(worlds.settings(tmp_path / "plain", source), LocalRunner())
    teacher = Preparing()
    monkeypatch.setattr(teachers, "load", lambda settings: teacher)
    build(worlds.settings(tmp_path / "ahead", source), LocalRunner())
    assert teacher.threads == {"decode"}
    assert worlds.hashes(tmp_path / "ahead") == worlds.hashes(tmp_path / "plain")


class InItsOwnWay(Preparing):
    """What a user's teacher of ours may be: it encodes regions in a way of its own."""

    def encode_regions(self, images, boxes_xyxy_norm):
        assert all(isinstance(image, np.ndarray) for image in images)
        return ColorTeacher().encode_regions(images, boxes_xyxy_norm)


class OwnPrepare(ColorTeacher):
    """Has a `prepare` that is another thing."""

    def prepare(self):
        raise AssertionError


@pytest.mark.parametrize("teacher", [InItsOwnWay(), OwnPrepare()])
def test_a_teacher_with_a_way_of_its_own_gets_images_as_they_are(tmp_path, source, monkeypatch, teacher):
    monkeypatch.setattr(teachers, "load", lambda settings: teacher)
    assert build(worlds.settings(tmp_path / "out", source), LocalRunner())["n_samples"] == 20


def test_an_image_that_cannot_be_prepared_costs_that_sample_alone(tmp_path, source, monkeypatch):
    monkeypatch.setattr(teachers, "load", lambda settings: Preparing(ValueError("too thin")))
    summary = build(worlds.settings(tmp_path / "out", source), LocalRunner())
    assert (summary["n_samples"], summary["rejects_by_reason"]) == (19, {"model_error": 1})
    monkeypatch.setattr(teachers, "load", lambda settings: Preparing(OSError(5, "EIO")))
    with pytest.raises(Incomplete, match=r"1 of 4 parts failed.*sample 008\.jpg"):
        build(worlds.settings(tmp_path / "broken", source), LocalRunner())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: device lost"),
        OSError(5, "EIO"),
    ],
)
def test_a_machine_that_fails_costs_the_part_and_no_sample(tmp_path, source, monkeypatch, error):
    monkeypatch.setattr(teachers, "load", lambda settings: Failing(error))
    with pytest.raises(Incomplete, match=r"1 of 4 parts failed.*sample 008\.jpg"):
        build(worlds.settings(tmp_path / "out", source), LocalRunner())
    assert len(list((tmp_path / "out" / "manifest").glob("*.json"))) == 3
    monkeypatch.setattr(teachers, "load", lambda settings: ColorTeacher())
    assert build(worlds.settings(tmp_path / "out", source), LocalRunner())["n_samples"] == 20
    assert list(verify(str(tmp_path / "out"))) == []


def test_what_reaches_a_text_encoder_is_bounded():
    assert readable("a red ball") == "a red ball"
    assert max(map(len, readable("x" * 100_000 + " ball").split())) == MAX_WORD
    assert len(readable("ball " * 100_000)) <= MAX_TEXT


def test_the_image_text_score_is_the_cosine_of_the_whole_image_and_each_caption(
    tmp_path, source, color_teacher
):
    build(worlds.settings(tmp_path / "out", source), LocalRunner())
    teacher, whole = ColorTeacher(), np.array([[0, 0, 1, 1]], np.float32)
    scores = []
    for sample in Dataset.open(str(tmp_path / "out")).samples():
        (image,) = teacher.encode_regions([decode(sample.image, 10**8)[0]], [whole])
        expected = torch.nn.functional.cosine_similarity(image, teacher.encode_text(sample.meta["captions"]))
        scores.append(sample.meta["image_text_scores"])
        assert scores[-1] == pytest.approx(expected.tolist(), abs=1e-4)
        assert len(sample.arrays["boxes_xyxy_norm"]) == sample.meta["n_regions"]
    best = sorted(max(row) for row in scores)
    middle = (best[9] + best[10]) / 2
    filters = FilterSettings(min_image_text_score=middle)
    summary = build(worlds.settings(tmp_path / "filtered", source, filters=filters), LocalRunner())
    dropped = sum(value < middle for value in best)
    assert 0 < dropped < 20
    assert summary["rejects_by_reason"] == {"low_image_text_score": dropped}


def test_the_images_of_a_part_stay_where_they_are_and_those_of_rejects_go():
    keys, images = ["a", "b", "c"], [b"1", b"22", b"333"]
    row = {"source_key": "", "source": "", "captions": [], "extra": "", "mentioned": [], "spans": []}
    table = pa.Table.from_pylist(
        [{**row, "key": key, "image": image} for key, image in zip(keys, images, strict=True)],
        records.SAMPLES,
    )
    made = {
        "extension": "jpg",
        "meta": "",
        "arrays": b"",
        "n_regions": 0,
        "n_pairs": 0,
        "pair_concept_ids": [],
    }
    for kept in ([0, 1, 2], [0, 2], []):
        rows = [{**made, "key": keys[i], "image": None} for i in kept]
        got = _with_images(rows, table)
        assert got.schema == records.ANNOTATED
        assert got["image"].to_pylist() == [images[i] for i in kept]
    assert (
        _with_images([{**made, "key": key} for key in keys], table)["image"].chunk(0).buffers()[2]
        == (table["image"].chunk(0).buffers()[2])
    )
