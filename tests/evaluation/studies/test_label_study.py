"""The label study: its arms as settings of the trainer, and its table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from evaluation.studies import label_study
from evaluation.studies.settings import ARMS, LabelStudySettings
from evaluation.studies.variants import VARIANTS


def test_every_arm_is_a_variant_there_is():
    assert {arm.variant for arm in ARMS.values()} <= set(VARIANTS)


def test_an_arm_is_the_studys_settings_but_for_its_own():
    settings = LabelStudySettings(dataset="data", out="study", threshold=0.2)
    run = label_study.run_for(settings, "no-distill", 3)
    assert run.name == "no-distill-3"
    assert run.train.data.dataset == "study/data/caption-0.2"
    assert run.train.run.seed == 3
    assert run.train.loss.distill_weight == 0.0
    assert run.train.loss.contrast_weight == settings.train.loss.contrast_weight
    strict = label_study.run_for(settings, "pool-strict", 3)
    assert strict.train.data.dataset == "study/data/pool-0.5"


def test_arms_keep_by_their_own_rule_whatever_the_dataset_kept_by():
    settings = LabelStudySettings(dataset="data", threshold=0.2, score={"threshold": 0.3})
    assert label_study.changes_of(settings, ARMS["blend"]) == {"score": "probability", "threshold": 0.2}
    assert label_study.changes_of(settings, ARMS["blend-scored"]) == {"score": "objectness", "threshold": 0.3}


def test_arms_that_share_labels_share_a_dataset():
    settings = LabelStudySettings(dataset="data")
    assert label_study.data_of(settings, ARMS["caption"]) == label_study.data_of(settings, ARMS["no-image"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"dataset": ""}, "dataset: is empty"), ({"dataset": "d", "arms": ["all"]}, "arms: all not known")],
)
def test_bad_settings_are_refused(changes: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        LabelStudySettings(**changes)


def test_the_table_says_what_a_student_gains_over_its_teacher(tmp_path: Path):
    def row(arm: str, seed: Any, top1: float) -> dict[str, Any]:
        split = {name: {"top1": top1} for name in ("all", "base", "novel")}
        metrics = {"arm": arm, "seed": seed, "regions": split, "scenes": {"top1": top1}}
        return label_study.row_of(metrics | {"detection_on_true_boxes": {"all": {"ap50": top1}}})

    rows = [row("pool", 0, 0.5), row("pool", 1, 0.6), row("oracle", 0, 0.9)]
    label_study.write_results(str(tmp_path), ["oracle", "pool", "swapped"], rows, row("teacher", "", 0.4))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2].startswith("| teacher (absolute, %) | | 40.0 | 40.0")
    assert lines[3].startswith("| oracle | 1 | +50.0 ± nan")
    assert lines[4].startswith("| pool | 2 | +15.0 ± 63.5")  # 12.706 * 7.07 / sqrt(2)
    assert len(lines) == 5  # an arm that has not run yet has no line
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["arm"] for r in table] == ["teacher", "pool", "pool", "oracle"]
    assert table[3]["image_to_text_r5"] == "nan"
