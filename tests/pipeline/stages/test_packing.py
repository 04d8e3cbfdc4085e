"""A micro-batch is labelled at once, and each of its samples as if it were alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.dataset.concepts import Vocabulary
from pipeline.localizers.settings import LocalizerSettings
from pipeline.rejects import Rejects
from pipeline.settings import AlignSettings, BuildSettings
from pipeline.stages import packing
from pipeline.stages.annotator import Annotator
from pipeline.stages.packing import Decoded, Embedded, Packer
from pipeline.teachers.settings import TeacherSettings
from tests.fakes import ColorTeacher

DIM, NAMES = 16, [f"thing {i}" for i in range(30)]


def packer(form: str) -> Packer:
    align = AlignSettings(
        tau=0.1, threshold=0.05, region_embeddings=form, pair_nms_iou=0.3, score="objectness"
    )
    texts = torch.randn(len(NAMES), DIM, generator=torch.Generator().manual_seed(9))
    return Packer(BuildSettings(out="out", align=align), Vocabulary(NAMES, texts, "0" * 16), "f" * 16)


def embedded(seed: int, n: int) -> Embedded:
    rng = np.random.default_rng(seed)
    low = rng.random((n, 2)) / 2
    row = {
        "key": f"{seed:024x}", "source_key": str(seed), "source": "", "image": b"", "extra": "",
        "captions": ["a", "b"][: 1 + seed % 2], "mentioned": [seed % 30],
        "spans": [{"concept_id": seed % 30, "caption": 0, "start": 0, "end": 1}],
    }  # fmt: skip
    captions = torch.nn.functional.normalize(
        torch.from_numpy(rng.normal(size=(len(row["captions"]), DIM))), dim=1
    )
    return Embedded(
        Decoded(row, np.zeros((20, 30, 3), np.uint8), "jpg", None),
        np.concatenate([low, low + rng.random((n, 2)) / 2], axis=1).astype(np.float32),
        rng.normal(size=n).astype(np.float32),
        torch.from_numpy(rng.normal(size=(n + 1, DIM))).float(),
        captions.float(),
    )


@pytest.mark.parametrize("form", ["none", "fp16", "int8"])
def test_a_samples_row_does_not_depend_on_the_samples_beside_it(form):
    work = [embedded(seed, n) for seed, n in enumerate((5, 0, 1, 17, 300, 2))]
    pack = packer(form)
    together, alone = pack(work, Rejects("p")), [row for w in work for row in pack([w], Rejects("p"))]
    assert together == alone
    assert sum(row["n_pairs"] for row in together) > 20


@pytest.mark.parametrize("part", ["regions", "captions"])
def test_an_embedding_that_is_no_number_costs_its_sample_alone(part):
    work = [embedded(seed, 4) for seed in range(4)]
    broken = getattr(work[2], part).clone()
    broken[0, 3] = float("nan")
    rejects, pack = Rejects("p"), packer("fp16")
    got = pack([*work[:2], dataclasses.replace(work[2], **{part: broken}), work[3]], rejects)
    assert got == pack([*work[:2], work[3]], Rejects("p"))
    assert [(r["source_key"], r["reason"]) for r in rejects.rows] == [("2", "not_finite")]


def test_regions_are_compared_with_concepts_where_the_teacher_is(monkeypatch):
    devices = []
    monkeypatch.setattr(packing, "Aligner", lambda concepts, align, device: devices.append(device))
    for device in ("cpu", "meta"):
        settings = BuildSettings(
            out="out", localizer=LocalizerSettings(kind="grid"), teacher=TeacherSettings(device=device)
        )
        Annotator(settings, Vocabulary(NAMES, torch.ones(30, 3), "0" * 16), "f" * 16, teacher=ColorTeacher())
    assert devices == ["cpu", "meta"]
