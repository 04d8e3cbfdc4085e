"""A dataset with stored region embeddings -> the same images and regions under other labels, beside it.

Another pool, templates, tau, threshold or policy takes matrix products alone: no image is decoded and no image model
runs (a text encoder does, once, if the pool or its prompts change). The new folder is a dataset like any other, with the
same parts; it is committed part by part and resumed as a build is, by the same runners.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import storage
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates, templates_hash
from pipeline import fingerprint, generation, own_pool, teachers
from pipeline.dataset import Dataset, check_format, claim, concepts, images, settings_of
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.finish import incompleteness
from pipeline.dataset.layout import FORMAT_VERSION, POOL_FILES, Layout
from pipeline.dataset.plan import Parts, Plan
from pipeline.runner import Runner, embed
from pipeline.settings import BuildSettings
from pipeline.standing import Standing, tell

if TYPE_CHECKING:
    from pipeline.stages.chain import Job, Stage

log = logging.getLogger("regionpairs")

#: Settings that may differ from the dataset's own. Whatever else is asked for needs a build.
CHANGEABLE = (
    "out", "align.", "corpus.", "pool.templates", "pool.ensemble", "pool.path", "workers", "threads", "decode_threads",
    "cpus_per_worker", "gpus_per_worker", "no_progress_s", "reject_budget", "damage_budget", "recheck", "report",
    "runtime",
    "teacher.device",
)  # fmt: skip


class NotRelabelable(ValueError):
    """The dataset holds no region embeddings, is not complete, or the change asked for needs its images."""


def relabel(
    dataset: str, settings: BuildSettings, runner: Runner, labels_only: bool = False
) -> dict[str, Any]:
    """Writes the dataset at `dataset` to `settings.out` with new labels; returns the summary of the new one.

    settings: the dataset's own with another `out` and, as wished, another `align`, `pool.path`, `pool.templates`,
    `pool.ensemble`. Which names a caption mentions stays as the dataset's build parsed it. labels_only: writes labels
    alone; the images stay where they are (`pipeline/dataset/images.py`). Raises NotRelabelable, Refused, Incomplete.
    """
    from pipeline.stages import RELABEL, RELABEL_LABELS

    return derive(
        dataset, settings, RELABEL_LABELS if labels_only else RELABEL, runner, labels_only=labels_only
    )


def derive(
    dataset: str,
    settings: BuildSettings,
    stages: Sequence[type[Stage]],
    runner: Runner,
    name: str = "relabel",
    options: Any = None,
    labels_only: bool = False,
) -> dict[str, Any]:
    """A dataset with the plan of another one, its parts sent through `stages`; returns its summary.

    name, options: which stages these are and what they were given; both are in the fingerprint (options as JSON, by its
    `identity()` where it has one). labels_only: that the last of them writes no images.
    """
    source = Layout(storage.location(dataset, "dataset"))
    layout = Layout(storage.location(settings.out, "out", write=True))
    was = _relabelable(source, layout, settings, runner)
    path = settings.pool.path
    wanted = ConceptPool.load(storage.absolute(path)) if path else concepts.load_pool(source)
    place = images.link(source, layout) if labels_only else None
    said = options.identity() if hasattr(options, "identity") else options
    components = {
        "format_version": FORMAT_VERSION,
        "made_from": Dataset.open(source.url).fingerprint,
        "by": name,
        "options": said,
        "align": dataclasses.asdict(settings.align),
        "corpus": dataclasses.asdict(settings.corpus) if settings.align.policy == "corpus" else None,
        "pool": wanted.hash,
        "templates": templates_hash(load_templates(settings.pool.templates)),
        "ensemble": settings.pool.ensemble,
        "teacher": teachers.describe(settings.teacher),
        "threads": settings.threads,
        "code": fingerprint.code_hash(),
        "libraries": fingerprint.libraries(),
        **({"images": place.identity()} if place else {}),
    }

    def plan_of(layout: Layout) -> Plan:
        if place:
            images.write(layout, place)
        return generation.copied_plan(source, layout, runner)

    def before(job: Job, parts: Parts) -> None:
        if settings.align.policy == "corpus":
            from pipeline.refine import fit_corpus

            fit_corpus(job, stages, parts, runner)

    return generation.make(
        source,
        settings,
        components,
        stages,
        runner,
        options,
        plan_of,
        lambda layout, components: _copied_pool(source, layout, components, settings, was, wanted, runner),
        before,
    )


def completed(was: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`was` with the defaults of the settings that it lacks: those that came after the dataset was built."""
    return {
        **defaults,
        **{
            key: completed(value, defaults[key])
            if isinstance(value, dict) and isinstance(defaults.get(key), dict)
            else value
            for key, value in was.items()
        },
    }


def _relabelable(source: Layout, layout: Layout, settings: BuildSettings, runner: Runner) -> dict[str, Any]:
    """The dataset's own settings, once it is certain that it can be relabelled as asked."""
    if layout.url == source.url:
        raise NotRelabelable("out: the new labels need a folder of their own, beside the dataset")
    was = settings_of(source, check_format(source))
    align = was.get("align")
    if not isinstance(align, dict) or "region_embeddings" not in align:
        raise NotRelabelable("the dataset's settings.yaml is damaged: it does not say what was stored")
    if align["region_embeddings"] == "none":
        raise NotRelabelable(
            "the dataset stores no region embeddings: build with align.region_embeddings fp16 or int8"
        )
    plan = Plan.committed(source)
    if wrong := incompleteness(plan, runner.map):
        raise DamagedDataset(f"{source.url} is {wrong}")
    known = completed(was, dataclasses.asdict(BuildSettings(out=settings.out)))
    changes = claim.differences(known, json.loads(json.dumps(dataclasses.asdict(settings))))
    if other := [line for line in changes if not line.startswith(CHANGEABLE)]:
        raise NotRelabelable("this needs a build, not new labels: " + "; ".join(other))
    return was


def _copied_pool(
    source: Layout,
    layout: Layout,
    components: dict[str, Any],
    settings: BuildSettings,
    was: dict[str, Any],
    wanted: ConceptPool,
    runner: Runner,
) -> dict[str, Any]:
    """The record of the pool in the new folder: copied where nothing about it changes, else encoded. Raises DamagedDataset
    where parts are committed there that were made with another one."""
    templates = templates_hash(load_templates(settings.pool.templates))
    if record := own_pool.found(layout, components, templates):
        return record
    old = concepts.embeddings_record(source)
    same = old is not None and old["pool"] == wanted.hash and old["templates"] == templates
    if old is not None and same and was["pool"]["ensemble"] == settings.pool.ensemble:
        own_pool.check(layout, components, old)
        for name in POOL_FILES:
            generation.copy_file((source.pool_file(name), layout.pool_file(name)))
        concepts.write_record(layout, old)
        return old
    own_pool.check_pool(layout, wanted.hash)
    with own_pool.kept(layout):
        wanted.save(layout.pool)
        log.info("encoding %d concepts", len(wanted.names))
        tell(Standing("text embeddings"))
        return own_pool.check(layout, components, runner.call(settings, embed, settings, layout))
