"""How many requests a part costs on an object store: the difference of a build of many parts and one of few."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pipeline.build import build
from pipeline.dataset.verify import verify
from pipeline.relabel import relabel
from pipeline.run_local import LocalRunner
from tests.reliability.conftest import SAMPLES, TARS, upload
from tests.reliability.test_object_store import OTHER, color_teacher, settings_of

__all__ = ["color_teacher"]
#: What may be sent for each part, of six samples in one tar: work -> requests.
LIMITS = {"build": 9, "again": 5, "relabel": 8, "verify": 4}


@pytest.mark.usefixtures("color_teacher")
def test_a_part_costs_a_bounded_number_of_requests(input_folder, s3, faulty):
    upload(s3, input_folder, "count/input")
    server = faulty(share=0.0, stall_share=0.0)
    counts: dict[int, dict[str, Counter[str]]] = {}
    for samples in (SAMPLES, 1):
        settings = settings_of(
            f"s3://bucket/count/{samples}", "s3://bucket/count/input", samples_per_shard=samples
        )
        other = dataclasses.replace(settings, out=f"{settings.out}-relabelled", align=OTHER)
        works = {
            "build": lambda s=settings: build(s, LocalRunner()),
            "again": lambda s=settings: build(s, LocalRunner()),
            "relabel": lambda s=settings, o=other: relabel(s.out, o, LocalRunner()),
            "verify": lambda s=settings: list(verify(s.out)),
        }
        counts[samples] = {}
        for name, work in works.items():
            server.requests.clear()
            work()
            counts[samples][name] = Counter(server.requests)
    parts = TARS * SAMPLES - TARS  # so many more parts in the second build
    for name, most in LIMITS.items():
        few, many = (sum(counts[s][name].values()) for s in (SAMPLES, 1))
        print(name, few, many, f"{(many - few) / parts:.1f} a part", counts[1][name].most_common(9))
        assert (many - few) / parts <= most, name
