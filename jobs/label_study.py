"""Which labels teach? Students of one dataset under other label policies, losses and controls, seed by seed.

    python jobs/label_study.py --dataset data/shapes --out runs/labels --train.run.steps 200

The dataset needs stored region embeddings (align.region_embeddings). Writes OUT/results.csv and OUT/table.md; the same
command goes on where it stopped.
"""

from __future__ import annotations

import csv
import logging
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation import truth
from evaluation.studies.scaling import mean_interval
from evaluation.studies.students import Parallel, StudentRun, examiner_of, train_all
from evaluation.studies.variants import write_variant
from evaluation.truth import TruthSettings
from jobs.arguments import parse
from training.settings import TrainSettings

log = logging.getLogger("regionpairs")


@dataclass(frozen=True)
class Arm:
    """One line of the table: a variant of the dataset (evaluation/studies/variants.py), its losses and its views."""

    variant: str
    loss: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None


#: Named as `--arms` names them.
ARMS: dict[str, Arm] = {
    "pool": Arm("pool"),
    "caption": Arm("caption"),
    "blend": Arm("blend"),
    "pool-strict": Arm("pool", threshold=0.5),
    "caption-strict": Arm("caption", threshold=0.5),
    "blend-strict": Arm("blend", threshold=0.5),
    "oracle": Arm("oracle"),
    "image-text-only": Arm("caption", {"contrast_weight": 0.0, "distill_weight": 0.0}),
    "shuffled-captions": Arm("shuffled"),
    "swapped-boxes": Arm("swapped"),
    "no-contrast": Arm("caption", {"contrast_weight": 0.0}),
    "no-distill": Arm("caption", {"distill_weight": 0.0}),
    "no-image": Arm("caption", {"image_weight": 0.0}),
    "global-local": Arm("caption", {"distill": "global-local"}),
    "feature": Arm("caption", {"distill": "feature"}),
    "never-mirrored": Arm("caption", view={"flip": "never"}),
}


@dataclass(frozen=True)
class LabelStudySettings:
    """The study.

    Attributes:
        dataset: a built dataset with stored region embeddings
        out: folder of the variants, the runs and the table
        arms: which lines of the table to run
        seeds: of the training order; every arm sees the same ones
        threshold: keep threshold of the variants; the `strict` arms have 0.5
        truth: what the dataset was made of; only `oracle` reads it
        test: held-out images that students are measured on
    """

    dataset: str = ""
    out: str = "runs/labels"
    arms: list[str] = field(default_factory=lambda: list(ARMS))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    threshold: float = 0.1
    train: TrainSettings = field(default_factory=TrainSettings)
    truth: TruthSettings = field(default_factory=TruthSettings)
    test: TruthSettings = field(default_factory=TruthSettings)
    parallel: Parallel = field(default_factory=Parallel)


def main(argv: list[str] | None = None) -> int:
    settings = parse(LabelStudySettings, argv, description=__doc__ or "", validate=check)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout
    )
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    known = truth.load(settings.truth) if "oracle" in settings.arms else None
    for arm in (ARMS[name] for name in settings.arms):
        threshold = threshold_of(settings, arm)
        write_variant(settings.dataset, data_of(settings, arm), arm.variant, known, threshold=threshold)
    teacher = row_of(
        {"arm": "teacher", "seed": "", **examiner_of(settings.train.student.encoder, settings.test).teacher}
    )
    log.info("teacher: region top-1 %.4f", teacher["top1"])
    runs = [run_for(settings, name, seed) for seed in settings.seeds for name in settings.arms]
    rows: list[dict[str, Any]] = []
    for metrics in train_all(runs, settings.test, settings.parallel):
        rows.append(row_of(metrics))
        log.info("%s: region top-1 %.4f", metrics["name"], rows[-1]["top1"])
        write_results(out, settings.arms, rows, teacher)
    return 0


def check(settings: LabelStudySettings) -> None:
    """Raises ValueError("key: what is wrong")."""
    if not settings.dataset:
        raise ValueError(
            "dataset: is empty; give the folder of a built dataset with stored region embeddings"
        )
    unknown = [name for name in settings.arms if name not in ARMS]
    if unknown:
        raise ValueError(f"arms: {', '.join(unknown)} not known; there are {', '.join(ARMS)}")


def run_for(settings: LabelStudySettings, name: str, seed: int) -> StudentRun:
    """One arm with one seed, as settings of the trainer."""
    arm, base = ARMS[name], settings.train
    train = replace(
        base,
        data=replace(base.data, dataset=data_of(settings, arm)),
        loss=replace(base.loss, **arm.loss),
        view=replace(base.view, **arm.view),
        run=replace(base.run, out=str(Path(settings.out) / "runs"), seed=seed),
    )
    return StudentRun(f"{name}-{seed}", train, {"arm": name, "seed": seed})


def threshold_of(settings: LabelStudySettings, arm: Arm) -> float:
    """An arm's own threshold, or the study's."""
    return settings.threshold if arm.threshold is None else arm.threshold


def data_of(settings: LabelStudySettings, arm: Arm) -> str:
    """The folder of an arm's variant of the dataset."""
    return str(Path(settings.out) / "data" / f"{arm.variant}-{threshold_of(settings, arm):g}")


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


def write_results(out: Path, arms: list[str], rows: list[dict[str, Any]], teacher: dict[str, Any]) -> None:
    """results.csv: every run. table.md: student minus teacher in points, mean and 95 % interval over the seeds."""
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(teacher))
        writer.writeheader()
        writer.writerows([teacher, *rows])
    figures = [name for name in teacher if name not in ("arm", "seed")]
    text = [f"| arm | seeds | {' | '.join(figures)} |", "|---|---|" + "---|" * len(figures)]
    text.append(
        "| teacher (absolute, %) | | " + " | ".join(f"{100 * teacher[f]:.1f}" for f in figures) + " |"
    )
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm]
        if not own:
            continue
        cells = []
        for figure in figures:
            mean, half = mean_interval([100 * (row[figure] - teacher[figure]) for row in own])
            cells.append(f"{mean:+.1f} ± {half:.1f}")
        text.append(f"| {arm} | {len(own)} | {' | '.join(cells)} |")
    (out / "table.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
