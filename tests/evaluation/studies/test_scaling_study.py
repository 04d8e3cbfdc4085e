"""The scaling study: which students it trains."""

from __future__ import annotations

from evaluation.studies import scaling_study
from evaluation.studies.settings import ScalingSettings


def test_the_plan_of_a_study_is_seed_by_seed():
    settings = ScalingSettings(datasets={"a": "x", "b": "y"}, fractions=[0.5, 1.0], seeds=[0, 1])
    found = list(scaling_study.plans(settings))
    assert len(found) == 8
    assert [plan.seed for plan in found] == [0] * 4 + [1] * 4
    assert len({plan.name for plan in found}) == 8
