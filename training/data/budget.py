"""How many damaged samples a training may pass over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pipeline.dataset import Dataset
from training.data.mixture import Mixture


class BadBudget(RuntimeError):
    """More samples are damaged than data.bad_budget allows. advice: what mends the dataset."""

    def __init__(self, what: str, advice: str = ""):
        super().__init__(what)
        self.advice = advice

    def __reduce__(self) -> tuple[type[BadBudget], tuple[str, str]]:
        return type(self), (str(self), self.advice)


def check_budget(dataset: Dataset | Mixture, skipped: Mapping[str, str], budget: float) -> None:
    """Raises BadBudget where more than this share of the samples is damaged. skipped: key -> reason."""
    total = dataset.n_samples
    if len(skipped) <= budget * total + 1e-9:
        return
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(skipped.values()).most_common())
    raise BadBudget(
        f"{len(skipped)} of {total} samples are damaged ({reasons}), more than data.bad_budget {budget} allows; first: "
        f"{next(iter(skipped))}",
        "; ".join(sorted({row.advice for row in dataset.shards})),
    )
