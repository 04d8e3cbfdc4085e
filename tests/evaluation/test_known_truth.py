"""Does the data teach? The real pipeline over scenes whose truth is known, then a student with its controls.

Thresholds are set from measured spreads: docs/results.md, section "In CI".
"""

from __future__ import annotations

from pathlib import Path

import pytest

from concept_pool.settings import PoolSettings
from evaluation import pair_report, truth
from evaluation.settings import TruthSettings
from evaluation.studies.students import StudentRun, examiner_of, train_one
from evaluation.studies.variants import write_variant
from pipeline.build import build
from pipeline.dataset import Dataset
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings, BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.teachers.settings import TeacherSettings
from training.settings import (
    DataSettings,
    LossSettings,
    OptimizerSettings,
    RunSettings,
    StudentSettings,
    TrainSettings,
    ViewSettings,
)

N_SCENES, SEED = 40, 5
TRUTH = TruthSettings(seed=SEED, count=N_SCENES)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("world") / "data")
    settings = BuildSettings(
        out=out,
        runtime="local",
        source=SourceSettings(kind="shapes", count=N_SCENES, seed=SEED),
        localizer=LocalizerSettings(kind="rpn-lite", max_proposals=50),
        pool=PoolSettings(min_count=1),
        align=AlignSettings(policy="blend", tau=0.1, threshold=0.5, region_embeddings="fp16"),
        samples_per_shard=20,
        workers=1,
    )
    build(settings, LocalRunner())
    return out


@pytest.fixture(scope="module")
def report(dataset: str) -> dict:
    return pair_report.pair_report(Dataset.open(dataset), truth.shapes_truth(SEED, 0, N_SCENES))


def test_proposals_find_the_objects(report: dict):
    """Also the direct check of the box order: with x and y exchanged recall is about a half of this."""
    assert report["proposals"]["recall50@50"] > 0.85


def test_pairs_are_right(report: dict):
    assert report["n_images"] == N_SCENES
    assert report["pairs"]["all"]["precision"] > 0.75
    assert report["pairs"]["all"]["recall"] > 0.45


def test_captions_make_better_labels_than_the_pool_alone(report: dict):
    precision = {
        policy: report["policies"][policy]["by_threshold"]["0"]["precision"]
        for policy in pair_report.POLICIES
    }
    assert precision["caption"] > precision["pool"] + 0.1
    assert precision["blend"] > precision["pool"] + 0.1


def test_a_higher_threshold_is_more_precise_and_finds_less(report: dict):
    table = report["policies"]["blend"]["by_threshold"]
    assert table["0.7"]["precision"] > table["0"]["precision"] + 0.1
    assert table["0.7"]["recall"] < table["0"]["recall"]


def test_another_worlds_truth_is_not_matched(dataset: str):
    """The control of the measurement itself: the truth of other scenes makes the pairs wrong."""
    known = truth.shapes_truth(SEED, 0, N_SCENES)
    other = truth.shapes_truth(SEED + 1, 0, N_SCENES)
    moved = [
        truth.TrueImage(a.key, a.load, a.captions, b.boxes_xyxy_norm, b.labels)
        for a, b in zip(known.images, other.images, strict=True)
    ]
    report = pair_report.pair_report(Dataset.open(dataset), truth.TruthSet(known.names, known.novel, moved))
    assert report["pairs"]["all"]["precision"] < 0.2


def test_the_variants_are_what_they_are_named_for(dataset: str, tmp_path: Path):
    """oracle: every pair is right; swapped boxes find few objects; another image's captions name few of them."""
    reports = {}
    for variant in ("oracle", "swapped", "caption", "shuffled"):
        write_variant(dataset, str(tmp_path / variant), variant, TRUTH, threshold=0.1)
        found = Dataset.open(str(tmp_path / variant))
        reports[variant] = pair_report.pair_report(found, truth.load(TRUTH))
    assert reports["oracle"]["pairs"]["all"]["precision_of_all"] == 1.0
    assert reports["oracle"]["pairs"]["all"]["recall"] > 0.8
    assert (
        reports["swapped"]["proposals"]["recall50@50"] < 0.8 * reports["caption"]["proposals"]["recall50@50"]
    )
    assert (
        reports["shuffled"]["pairs"]["all"]["precision"] < reports["caption"]["pairs"]["all"]["precision"] / 2
    )


@pytest.fixture(scope="module")
def gains(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Region top-1 of small students minus their teacher's, on the scenes that they were trained on.

    What is tested is the way from a stored label to the student, not generalisation: forty scenes teach none.
    """
    folder = tmp_path_factory.mktemp("students")
    encoder = TeacherSettings(kind="shapes", batch_images=16)
    found = {}
    for name, (variant, loss) in {
        "oracle": ("oracle", LossSettings()),
        "swapped": ("swapped-oracle", LossSettings()),
        "image-text": ("oracle", LossSettings(contrast_weight=0.0, distill_weight=0.0)),
    }.items():
        data = str(folder / variant)
        write_variant(dataset, data, variant, TRUTH)
        settings = TrainSettings(
            data=DataSettings(dataset=data, batch_images=16, workers=0, cache_images=True),
            view=ViewSettings(short_side=96, long_side=192, max_regions=16, pad_to=8),
            student=StudentSettings(encoder=encoder),
            loss=loss,
            optimizer=OptimizerSettings(lr=1e-3, warmup_steps=3),
            run=RunSettings(out=str(folder), steps=40, threads=1, tensorboard=False, device="cpu"),
        )
        found[name] = train_one(StudentRun(name, settings, {}), TRUTH)["regions"]["all"]["top1"]
    teacher = examiner_of(encoder, TRUTH).teacher["regions"]["all"]["top1"]
    return {name: value - teacher for name, value in found.items()}


@pytest.mark.slow
def test_true_labels_teach_and_the_controls_do_not(gains: dict[str, float]):
    assert gains["oracle"] > 0.18
    assert gains["oracle"] > gains["image-text"] + 0.18
    assert gains["oracle"] > gains["swapped"] + 0.08
