"""The corpus pass as a pass over a dataset: whole, resumable, the same bytes whoever runs it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import storage
from evaluation.studies.variants import write_variant
from pipeline import refine
from pipeline.build import REGIONS, build
from pipeline.corpus.classifier import from_bytes
from pipeline.corpus.settings import CorpusSettings
from pipeline.dataset import Dataset
from pipeline.dataset.verify import verify
from pipeline.relabel import NotRelabelable, relabel
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings
from tests.pipeline import worlds

ALIGN = AlignSettings(policy="blend", tau=0.1, threshold=0.2, top_k=3, region_embeddings="int8")
CORPUS = CorpusSettings(rounds=3, shards_per_step=2, steps_per_round=2)


class Threads(LocalRunner):
    """Maps in several threads, as Ray maps in several processes."""

    def map(self, function, items):
        with ThreadPoolExecutor(3) as pool:
            yield from list(pool.map(function, items))


class Killed(Exception):
    pass


@pytest.fixture
def built(tmp_path, color_teacher):
    """A dataset with stored embeddings, one of whose images is broken."""
    source = worlds.coco_folder(tmp_path / "source", n=20)
    (Path(source.images) / "003.jpg").write_bytes(b"no picture")
    settings = worlds.settings(tmp_path / "first", source, align=ALIGN, corpus=CORPUS, reject_budget=0.5)
    build(settings, LocalRunner())
    return settings


def corpus(settings, out, **align):
    changes = {"policy": "corpus", "score": "objectness", **align}
    return dataclasses.replace(
        settings, out=str(out), align=dataclasses.replace(settings.align, **changes), workers=1
    )


def all_bytes(out) -> dict[str, bytes]:
    """Of shards and pool, but for the report of the fit, which holds seconds."""
    found = [p for folder in ("shards", "concept_pool") for p in Path(out, folder).iterdir()]
    return {p.name: p.read_bytes() for p in found if p.name != "classifier.json"}


def test_the_new_dataset_is_whole_and_holds_its_classifier(built, tmp_path):
    summary = relabel(built.out, corpus(built, tmp_path / "c"), LocalRunner())
    assert list(verify(str(tmp_path / "c"))) == []
    assert (summary["n_samples"], summary["n_rejected"]) == (19, 1)
    dataset = Dataset.open(str(tmp_path / "c"))
    model = from_bytes(storage.read_bytes(dataset.layout.classifier))
    assert model.n_concepts == len(dataset.pool.names)
    for sample in dataset.samples():
        arrays = sample.arrays
        assert len(arrays["background"]) == len(arrays["scores"]) == len(arrays["kept"])
        assert [p["region"] for p in sample.meta["pairs"]] == np.flatnonzero(arrays["kept"] == 0).tolist()
    report = json.loads((tmp_path / "c" / "concept_pool" / "classifier.json").read_text())
    assert len(report["rounds"]) == 3
    assert not list((tmp_path / "c" / "corpus").iterdir())


def test_any_number_of_workers_gives_the_same_bytes(built, tmp_path):
    relabel(built.out, corpus(built, tmp_path / "one"), LocalRunner())
    relabel(built.out, dataclasses.replace(corpus(built, tmp_path / "many"), workers=3), Threads())
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "many")


@pytest.mark.parametrize("writes", range(1, 14, 2))
def test_a_pass_that_is_killed_goes_on_to_the_same_bytes(built, tmp_path, monkeypatch, writes):
    relabel(built.out, corpus(built, tmp_path / "whole"), LocalRunner())
    wanted = corpus(built, tmp_path / "killed")
    count, write = [0], storage.write_bytes

    def dying(url, data, *rest):
        if "killed" in url and ("/corpus/" in url or "classifier" in url):
            count[0] += 1
            if count[0] == writes:
                raise Killed
        write(url, data, *rest)

    monkeypatch.setattr(storage, "write_bytes", dying)
    with contextlib.suppress(Killed):
        relabel(built.out, wanted, LocalRunner())
    monkeypatch.setattr(storage, "write_bytes", write)
    relabel(built.out, wanted, LocalRunner())
    assert list(verify(wanted.out)) == []
    assert all_bytes(tmp_path / "whole") == all_bytes(tmp_path / "killed")


def test_a_finished_one_is_left_alone(built, tmp_path, monkeypatch):
    wanted = corpus(built, tmp_path / "c")
    relabel(built.out, wanted, LocalRunner())
    monkeypatch.setattr(refine.fitting, "fit", lambda *a, **k: pytest.fail("it was fitted again"))
    assert relabel(built.out, wanted, LocalRunner())["last_run"] == {"n_parts_built": 0}


def test_a_damaged_classifier_is_noticed_and_fitted_anew(built, tmp_path):
    wanted = corpus(built, tmp_path / "c")
    relabel(built.out, wanted, LocalRunner())
    file = tmp_path / "c" / "concept_pool" / "classifier.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[:-9])
    assert any("classifier" in line for line in verify(wanted.out))
    relabel(built.out, wanted, LocalRunner())
    assert file.read_bytes() == before
    assert list(verify(wanted.out)) == []


def test_the_build_runs_the_pass_itself(built, tmp_path):
    wanted = corpus(built, tmp_path / "direct", region_embeddings="none")
    build(wanted, LocalRunner())
    assert list(verify(wanted.out)) == []
    assert list(verify(wanted.out + REGIONS)) == []
    dataset = Dataset.open(wanted.out)
    assert dataset.align.policy == "corpus"
    assert all("region_embeddings" not in s.arrays for s in dataset.samples())


def test_captions_of_other_images_are_what_the_control_fits(built, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        write_variant(built.out, str(tmp_path / "v"), "corpus-shuffled", score="objectness")
    plain = write_variant(built.out, str(tmp_path / "w"), "corpus", score="objectness")
    assert plain["n_samples"] == 19
    files = [tmp_path / name / "concept_pool" / "classifier.safetensors" for name in ("v", "w")]
    assert files[0].read_bytes() != files[1].read_bytes()
    assert list(verify(str(tmp_path / "v"))) == []


def test_a_dataset_without_embeddings_is_refused(tmp_path, color_teacher):
    source = worlds.coco_folder(tmp_path / "source", n=6)
    settings = worlds.settings(tmp_path / "first", source, align=AlignSettings(policy="blend"))
    build(settings, LocalRunner())
    with pytest.raises(NotRelabelable, match="region embeddings"):
        relabel(settings.out, corpus(settings, tmp_path / "c", region_embeddings="fp16"), LocalRunner())
