"""Labelled datasets of the same images and pool -> the first one, with those pairs alone that the others have too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import storage
from pipeline import generation
from pipeline.dataset import Dataset
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.finish import incompleteness
from pipeline.dataset.layout import FORMAT_VERSION
from pipeline.dataset.plan import Plan
from pipeline.fingerprint import code_hash
from pipeline.runner import Runner
from pipeline.settings import BuildSettings


class NotMergeable(ValueError):
    """The datasets are not of the same images and pool, or one of them is not complete."""


def merge(
    dataset: str,
    others: Sequence[str],
    settings: BuildSettings,
    runner: Runner,
    iou: float = 0.5,
    votes: int = 0,
) -> dict[str, Any]:
    """Writes the dataset at `dataset`, its pairs agreed with the `others`, to `settings.out`; returns the new summary.

    settings: the first dataset's own with another `out`. iou: least overlap of two boxes, above 0 and at most 1. votes: how
    many of the others must have a pair of the same concept there; 0: all of them. Regions, labels, probabilities and
    embeddings are the first dataset's; a pair that is not agreed gets the reason NOT_AGREED. A classifier of corpus labels
    stays behind. Raises NotMergeable, Refused, Incomplete.
    """
    from pipeline.stages.agree import Agree, Votes
    from pipeline.stages.commit import Commit
    from pipeline.stages.read_shard import ReadShard

    if not 0 < iou <= 1:
        raise NotMergeable(f"iou: must be above 0 and at most 1, is {iou}")
    if not others or not 0 <= votes <= len(others):
        raise NotMergeable(f"votes: must be at most the number of other datasets, {len(others)}, is {votes}")
    opened = [Dataset.open(url) for url in (dataset, *others)]
    first, rest = opened[0], opened[1:]
    if storage.location(settings.out, "out", write=True) in [d.layout.url for d in opened]:
        raise NotMergeable("out: the agreement needs a folder of its own, beside the datasets")
    _check_same(first, rest, runner)
    options = Votes(
        tuple(d.layout.url for d in rest), tuple(d.fingerprint for d in rest), iou, votes or len(rest)
    )
    components = {
        "format_version": FORMAT_VERSION,
        "made_from": first.fingerprint,
        "by": "merge",
        "options": options.identity(),
        "pool": first.pool_hash,
        "code": code_hash(),
    }
    return generation.make(
        first.layout,
        settings,
        components,
        (ReadShard, Agree, Commit),
        runner,
        options,
        lambda layout: generation.copied_plan(first.layout, layout, runner),
        lambda layout, components: generation.copied_pool(first.layout, layout, components),
    )


def _check_same(first: Dataset, rest: Sequence[Dataset], runner: Runner) -> None:
    """Raises NotMergeable unless all datasets are complete, of one pool and of the same parts (one input, cut alike)."""
    names = [part.name for part in Plan.committed(first.layout).parts]
    for other in (first, *rest):
        plan = Plan.committed(other.layout)
        if other.pool_hash != first.pool_hash:
            raise NotMergeable(f"{other.url} has another concept pool than {first.url}")
        if [part.name for part in plan.parts] != names:
            raise NotMergeable(f"{other.url} has other images or another samples_per_shard than {first.url}")
        if wrong := incompleteness(plan, runner.map):
            raise DamagedDataset(f"{other.url} is {wrong}")
