"""Where a study's students are trained."""

from __future__ import annotations

import pytest

from evaluation.studies.settings import Parallel
from jobs.maps import map_of


def test_a_local_study_uses_this_process():
    assert map_of(Parallel()) is map


@pytest.mark.ray
def test_a_study_on_ray_reserves_what_it_was_told():
    found = map_of(Parallel("ray", cpus_per_run=2, gpus_per_run=0.5))
    assert (found.cpus, found.gpus) == (2, 0.5)
