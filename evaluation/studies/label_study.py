"""Which labels teach? Students of one dataset under other label policies, losses and controls, seed by seed."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import storage
from evaluation.metrics.intervals import mean_interval
from evaluation.studies.settings import ARMS, Arm, LabelStudySettings
from evaluation.studies.students import Map, StudentRun, examiner_of, train_all
from evaluation.studies.variants import write_variant

log = logging.getLogger("regionpairs")


def run(settings: LabelStudySettings, map: Map = map) -> None:
    """Writes the variants, trains what is not trained yet, and keeps OUT/results.csv and OUT/table.md up to date.

    map: where students are trained (evaluation/studies/students.py). The same settings go on where a run stopped.
    """
    write_variants(settings)
    teacher = row_of(
        {"arm": "teacher", "seed": "", **examiner_of(settings.train.student.encoder, settings.test).teacher}
    )
    log.info("teacher: region top-1 %.4f", teacher["top1"])
    runs = [run_for(settings, name, seed) for seed in settings.seeds for name in settings.arms]
    rows: list[dict[str, Any]] = []
    for metrics in train_all(runs, settings.test, map):
        rows.append(row_of(metrics))
        log.info("%s: region top-1 %.4f", metrics["name"], rows[-1]["top1"])
        write_results(settings.out, settings.arms, rows, teacher)


def write_variants(settings: LabelStudySettings) -> None:
    """The datasets of all arms, each written once."""
    for arm in (ARMS[name] for name in settings.arms):
        changes = changes_of(settings, arm)
        write_variant(settings.dataset, data_of(settings, arm), arm.variant, settings.truth, **changes)


def run_for(settings: LabelStudySettings, name: str, seed: int) -> StudentRun:
    """One arm with one seed, as settings of the trainer."""
    arm, base = ARMS[name], settings.train
    train = replace(
        base,
        data=replace(base.data, dataset=data_of(settings, arm)),
        loss=replace(base.loss, **arm.loss),
        view=replace(base.view, **arm.view),
        run=replace(base.run, out=storage.join(settings.out, "runs"), seed=seed),
    )
    return StudentRun(f"{name}-{seed}", train, {"arm": name, "seed": seed})


def changes_of(settings: LabelStudySettings, arm: Arm) -> dict[str, Any]:
    """What an arm changes of the dataset's AlignSettings, beside the policy."""
    own = {} if arm.threshold is None else {"threshold": arm.threshold}
    scored = {"score": "objectness", **settings.score} if arm.scored else {"score": "probability"}
    return {"threshold": settings.threshold, **scored, **own}


def data_of(settings: LabelStudySettings, arm: Arm) -> str:
    """The folder of an arm's variant of the dataset."""
    scored = "-scored" if arm.scored else ""
    return storage.join(
        settings.out, "data", f"{arm.variant}{scored}-{changes_of(settings, arm)['threshold']:g}"
    )


def row_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures of the table."""
    regions = metrics["regions"]
    return {
        "arm": metrics["arm"],
        "seed": metrics["seed"],
        "top1": regions["all"]["top1"],
        "base_top1": regions["base"]["top1"],
        "novel_top1": regions["novel"]["top1"],
        "ap50": metrics["detection_on_true_boxes"]["all"]["ap50"],
        "scene_top1": metrics["scenes"]["top1"],
        "image_to_text_r5": metrics.get("retrieval", {}).get("image_to_text_r5", float("nan")),
    }


def write_results(
    out: str, arms: Sequence[str], rows: Sequence[dict[str, Any]], teacher: dict[str, Any]
) -> None:
    """results.csv: every run. table.md: student minus teacher in points, mean and 95 % interval over the seeds."""
    page = io.StringIO(newline="")
    writer = csv.DictWriter(page, list(teacher))
    writer.writeheader()
    writer.writerows([teacher, *rows])
    storage.write_bytes(storage.join(storage.absolute(out), "results.csv"), page.getvalue().encode())
    figures = [name for name in teacher if name not in ("arm", "seed")]
    text = [f"| arm | seeds | {' | '.join(figures)} |", "|---|---|" + "---|" * len(figures)]
    absolute = " | ".join(f"{100 * teacher[f]:.1f}" for f in figures)
    text.append(f"| teacher (absolute, %) | | {absolute} |")
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm]
        if own:
            cells = [_cell([100 * (row[f] - teacher[f]) for row in own]) for f in figures]
            text.append(f"| {arm} | {len(own)} | {' | '.join(cells)} |")
    storage.write_bytes(storage.join(storage.absolute(out), "table.md"), ("\n".join(text) + "\n").encode())


def _cell(points: list[float]) -> str:
    mean, half = mean_interval(points)
    return f"{mean:+.1f} ± {half:.1f}"
