"""Variants of a dataset: they are datasets, and each changes what its name says and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation import truth
from evaluation.settings import TruthSettings
from evaluation.studies.variants import VARIANTS, certain, from_document, write_variant
from pipeline.build import build
from pipeline.dataset import Dataset, Sample
from pipeline.dataset.claim import Refused
from pipeline.dataset.sample import is_pair
from pipeline.dataset.verify import verify
from pipeline.localizers.settings import LocalizerSettings
from pipeline.run_local import LocalRunner
from pipeline.settings import AlignSettings, BuildSettings
from pipeline.sources.settings import SourceSettings
from pipeline.stages.chain import check_chain
from tests.fakes import ColorTeacher
from tests.pipeline import worlds

N_SCENES, SEED = 24, 11
TRUTH = TruthSettings(seed=SEED, count=N_SCENES)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scenes with their true boxes and a grid's worth of others, labelled by a teacher that sees colour alone."""
    out = tmp_path_factory.mktemp("variants") / "data"
    settings = worlds.settings(
        out,
        SourceSettings(kind="shapes", count=N_SCENES, seed=SEED),
        localizer=LocalizerSettings(kind="ground-truth"),
        align=AlignSettings(policy="pool", tau=0.1, threshold=0.0, region_embeddings="int8"),
        samples_per_shard=10,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.teachers.load", lambda settings: ColorTeacher())
        build(settings, LocalRunner())
    return str(out)


def _samples(url: str) -> dict[str, Sample]:
    return {sample.key: sample for sample in Dataset.open(url).samples()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_a_whole_dataset_of_the_same_images(dataset: str, tmp_path: Path, variant: str):
    out = str(tmp_path / variant)
    summary = write_variant(dataset, out, variant, TRUTH, threshold=0.05)
    assert list(verify(out)) == []
    assert summary["n_samples"] == N_SCENES
    before, after = _samples(dataset), _samples(out)
    assert list(before) == list(after)
    assert all(before[key].image == after[key].image for key in before)
    assert Dataset.open(out).fingerprint != Dataset.open(dataset).fingerprint


def test_the_same_call_again_changes_nothing_and_another_is_refused(dataset: str, tmp_path: Path):
    out = str(tmp_path / "caption")
    write_variant(dataset, out, "caption", threshold=0.05)
    before = {p: p.read_bytes() for p in Path(out).glob("shards/*")}
    assert write_variant(dataset, out, "caption", threshold=0.05)["last_run"]["n_parts_built"] == 0
    assert before == {p: p.read_bytes() for p in Path(out).glob("shards/*")}
    with pytest.raises(Refused):
        write_variant(dataset, out, "caption", threshold=0.5)
    with pytest.raises(Refused):
        write_variant(dataset, out, "shuffled", threshold=0.05)


def test_oracle_labels_are_the_truth(dataset: str, tmp_path: Path):
    write_variant(dataset, str(tmp_path / "out"), "oracle", TRUTH)
    found = Dataset.open(str(tmp_path / "out"))
    names, known = found.pool.names, {image.key: image for image in truth.load(TRUTH).images}
    kinds = truth.load(TRUTH).names
    n_pairs = 0
    for sample in found.samples():
        image = known[sample.meta["source_key"]]
        kept = is_pair(sample.arrays)
        assert sample.arrays["topk_probs"][:, 0].tolist() == kept.astype(float).tolist()
        assert sample.arrays["residual"].tolist() == (~kept).astype(float).tolist()
        said = [pair["concept"] for pair in sample.meta["pairs"]]
        assert said == [names[i] for i in sample.arrays["topk_ids"][kept, 0]]
        assert set(said) <= {kinds[i] for i in image.labels}
        n_pairs += len(said)
    assert n_pairs > N_SCENES


def test_oracle_needs_the_truth_of_this_dataset(dataset: str, tmp_path: Path):
    with pytest.raises(ValueError, match="needs the truth"):
        write_variant(dataset, str(tmp_path / "a"), "oracle")
    with pytest.raises(Exception, match="the truth knows none of the part's images"):
        write_variant(dataset, str(tmp_path / "b"), "oracle", TruthSettings(seed=SEED + 1, count=2))


def test_swapped_boxes_have_x_and_y_exchanged(dataset: str, tmp_path: Path):
    write_variant(dataset, str(tmp_path / "out"), "swapped", threshold=0.05)
    before, after = _samples(dataset), _samples(str(tmp_path / "out"))
    for key, sample in after.items():
        boxes = before[key].arrays["boxes_xyxy_norm"]
        assert np.array_equal(sample.arrays["boxes_xyxy_norm"], boxes[:, [1, 0, 3, 2]])
        for pair in sample.meta["pairs"]:
            assert pair["box_xyxy_norm"] == pytest.approx(boxes[pair["region"], [1, 0, 3, 2]], abs=1e-5)


def test_shuffled_captions_come_from_another_image(dataset: str, tmp_path: Path):
    write_variant(dataset, str(tmp_path / "out"), "shuffled", threshold=0.05)
    before, after = _samples(dataset), _samples(str(tmp_path / "out"))
    moved = 0
    for key, sample in after.items():
        (other,) = (o for o in before.values() if o.meta["captions"] == sample.meta["captions"])
        moved += other.key != key
        assert sample.meta["mentioned"] == other.meta["mentioned"]
        theirs = other.arrays["caption_embeddings"]
        assert np.array_equal(sample.arrays["caption_embeddings"], theirs)
    assert moved == N_SCENES


def test_an_unknown_variant_is_refused(dataset: str, tmp_path: Path):
    with pytest.raises(ValueError, match="none of pool"):
        write_variant(dataset, str(tmp_path / "out"), "other")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stages_of_a_variant_fit(variant: str):
    check_chain(VARIANTS[variant].stages)


def test_a_known_label_stands_first_and_ids_stay_distinct():
    ids = np.array([[4, 2, 7], [4, 2, 7], [4, 2, 7]])
    found = certain(ids, np.array([7, 9, -1]))
    assert found.topk_ids.tolist() == [[7, 4, 2], [9, 4, 2], [4, 2, 7]]
    assert found.topk_probs.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert found.kept.tolist() == [True, True, False]
    assert found.residual.tolist() == [0, 0, 1]


def test_settings_come_back_from_their_document(dataset: str):
    settings = from_document(BuildSettings, Dataset.open(dataset).settings)
    assert settings.source.kind == "shapes"
    assert settings.align.region_embeddings == "int8"
    with pytest.raises(TypeError):
        from_document(BuildSettings, {"no_such_key": 1})
