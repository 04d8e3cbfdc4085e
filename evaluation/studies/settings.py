"""Settings of the studies, and the arms of the label study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from evaluation.settings import TruthSettings
from training.settings import TrainSettings


@dataclass(frozen=True)
class Parallel:
    """How a study trains its students.

    Attributes:
        runtime: local (one after the other) | ray (as tasks of the job's cluster, or of this machine)
        cpus_per_run: CPUs that Ray reserves for a student
        gpus_per_run: GPUs that Ray reserves for a student
    """

    runtime: Literal["local", "ray"] = "local"
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0


@dataclass(frozen=True)
class Arm:
    """One line of the table: a variant of the dataset (evaluation/studies/variants.py), its losses and its views.

    scored: its pairs are kept by the study's `score`.
    """

    variant: str
    loss: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    scored: bool = False


#: Named as `--arms` names them.
ARMS: dict[str, Arm] = {
    "pool": Arm("pool"),
    "caption": Arm("caption"),
    "blend": Arm("blend"),
    "pool-strict": Arm("pool", threshold=0.5),
    "caption-strict": Arm("caption", threshold=0.5),
    "blend-strict": Arm("blend", threshold=0.5),
    "oracle": Arm("oracle"),
    "corpus": Arm("corpus", scored=True),
    "caption-scored": Arm("caption", scored=True),
    "blend-scored": Arm("blend", scored=True),
    "corpus-shuffled": Arm("corpus-shuffled", scored=True),
    "corpus-no-image": Arm("corpus", {"image_weight": 0.0}, scored=True),
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
        score: of the `scored` arms, fields of AlignSettings, e.g. {objectness_scale: 2.8, threshold: 0.2}
        truth: what the dataset was made of; only `oracle` reads it
        test: held-out images that students are measured on
    """

    dataset: str = ""
    out: str = "runs/labels"
    arms: list[str] = field(default_factory=lambda: list(ARMS))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    threshold: float = 0.1
    score: dict[str, Any] = field(default_factory=lambda: {"score": "objectness", "threshold": 0.2})
    train: TrainSettings = field(default_factory=TrainSettings)
    truth: TruthSettings = field(default_factory=TruthSettings)
    test: TruthSettings = field(default_factory=TruthSettings)
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        if not self.dataset:
            raise ValueError(
                "dataset: is empty; give the folder of a built dataset with stored region embeddings"
            )
        if unknown := [name for name in self.arms if name not in ARMS]:
            raise ValueError(f"arms: {', '.join(unknown)} not known; there are {', '.join(ARMS)}")


@dataclass(frozen=True)
class ScalingSettings:
    """The study.

    Attributes:
        datasets: name -> folder of a built dataset, e.g. one a label policy
        out: folder of runs, runs.csv, scaling.png and report.md
        fractions: shares of each dataset; the samples of a smaller one lie in every larger one
        seeds: of the training order
        budgets: passes (each student sees `passes` images) | epochs (each sees its samples `epochs` times)
        passes: images a student sees (budget: passes)
        epochs: how often a student sees each of its samples (budget: epochs)
        only_report: read the metrics that are there and write the report
    """

    datasets: dict[str, str] = field(default_factory=dict)
    out: str = "runs/scaling"
    fractions: list[float] = field(default_factory=lambda: [0.0625, 0.125, 0.25, 0.5, 1.0])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budgets: list[Literal["passes", "epochs"]] = field(default_factory=lambda: ["passes"])
    passes: int = 4096
    epochs: float = 4.0
    only_report: bool = False
    train: TrainSettings = field(default_factory=TrainSettings)
    test: TruthSettings = field(default_factory=TruthSettings)
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        if not self.datasets and not self.only_report:
            raise ValueError("datasets: is empty; give name -> folder of at least one built dataset")
        if not all(0 < f <= 1 for f in self.fractions):
            raise ValueError(f"fractions: must be above 0 and at most 1, are {self.fractions}")
