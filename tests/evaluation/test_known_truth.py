"""Does the data teach? The real pipeline over scenes whose truth is known, then a student with its controls.

Thresholds are set from measured spreads: docs/results.md, section "In CI".
"""

from __future__ import annotations

import pytest

from concept_pool.settings import PoolSettings
from evaluation import datasets, truth
from pipeline.align import AlignSettings
from pipeline.build import build
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import BuildSettings
from pipeline.sources.settings import SourceSettings

N_SCENES, SEED = 40, 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("world") / "data")
    settings = BuildSettings(
        out=out,
        runtime="local",
        source=SourceSettings(kind="shapes", count=N_SCENES, seed=SEED),
        localizer=LocalizerSettings(kind="rpn-lite", max_proposals=50),
        pool=PoolSettings(min_count=1),
        align=AlignSettings(policy="blend", tau=0.08, threshold=0.5, region_embeddings="fp16"),
        samples_per_shard=20,
        workers=1,
    )
    build(settings, LocalRunner())
    return out


@pytest.fixture(scope="module")
def report(dataset: str) -> dict:
    return datasets.pair_report(dataset, truth.shapes_truth(SEED, 0, N_SCENES))


def test_proposals_find_the_objects(report: dict):
    """Also the direct check of the box order: with x and y exchanged recall is about a half of this."""
    assert report["proposals"]["recall50@50"] > 0.85


def test_pairs_are_right(report: dict):
    assert report["n_images"] == N_SCENES
    assert report["pairs"]["all"]["precision"] > 0.75
    assert report["pairs"]["all"]["recall"] > 0.3


def test_captions_make_better_labels_than_the_pool_alone(report: dict):
    precision = {
        policy: report["policies"][policy]["by_threshold"]["0"]["precision"] for policy in datasets.POLICIES
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
    report = datasets.pair_report(dataset, truth.TruthSet(known.names, known.novel, moved))
    assert report["pairs"]["all"]["precision"] < 0.2
