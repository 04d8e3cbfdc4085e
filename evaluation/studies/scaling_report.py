"""A scaling study on paper: a CSV of the runs, a plot, and a page that says what the fit supports and what not."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.metrics.intervals import mean_interval
from evaluation.studies.power_law import Fit, fit


@dataclass(frozen=True)
class Run:
    """One student. data: the name of its dataset; budget: passes | epochs; n: samples it could see; error: in [0, 1]."""

    data: str
    budget: str
    n: int
    seed: int
    steps: int
    error: float


def write_report(
    out: Path, runs: Sequence[Run], teacher_error: float, figure: str, n_bootstrap: int = 400
) -> str:
    """Writes runs.csv, scaling.png and report.md into `out`; returns the page."""
    runs = sorted(runs, key=lambda r: (r.budget, r.data, r.n, r.seed))
    with (out / "runs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Run.__dataclass_fields__)
        writer.writerows([r.data, r.budget, r.n, r.seed, r.steps, f"{r.error:.5f}"] for r in runs)
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for r in runs:
        groups[r.budget, r.data].append(r)
    fits: dict[tuple[str, str], Fit | str] = {}
    for key, group in groups.items():
        try:
            fits[key] = fit([r.n for r in group], [r.error for r in group], n_bootstrap)
        except ValueError as e:
            fits[key] = str(e)
    plot(out / "scaling.png", groups, fits, teacher_error, figure)
    page = "\n".join(_page(groups, fits, teacher_error, figure))
    (out / "report.md").write_text(page)
    return page


def _page(
    groups: dict[tuple[str, str], list[Run]],
    fits: dict[tuple[str, str], Fit | str],
    teacher_error: float,
    figure: str,
) -> list[str]:
    lines = [
        "# Scaling study",
        "",
        f"Error = 1 - {figure} on held-out images; the teacher's is {teacher_error:.4f}. Mean ± 95 % interval (t).",
        "Subsets are nested. `passes`: every student sees as many images, so only variety differs. `epochs`: every",
        "student sees its subset as often, so a larger subset also means more steps.",
        "",
        "![error against samples](scaling.png)",
        "",
        "| budget | data | samples | seeds | steps | error |",
        "|---|---|---|---|---|---|",
    ]
    for (budget, data), group in groups.items():
        for n in sorted({r.n for r in group}):
            own = [r for r in group if r.n == n]
            mean, half = mean_interval([r.error for r in own])
            lines.append(
                f"| {budget} | {data} | {n} | {len(own)} | {own[0].steps} | {mean:.4f} ± {half:.4f} |"
            )
    lines += ["", "## Fits: error(n) = a n^-b + c", ""]
    for (budget, data), found in fits.items():
        lines.append(f"- **{data}, fixed {budget}**: {sentence(found)}")
    return [*lines, ""]


def sentence(found: Fit | str) -> str:
    """What a fit supports, in one honest sentence."""
    if isinstance(found, str):
        return f"no fit: {found}."
    law, (low, high) = found.law, found.b_interval
    text = (
        f"b = {law.b:.2f} [{low:.2f}, {high:.2f}], c = {law.c:.3f} [{found.c_interval[0]:.3f}, {found.c_interval[1]:.3f}], "
        f"a = {law.a:.3g}, R² = {found.r2:.2f} over {found.sizes[0]:.0f} to {found.sizes[-1]:.0f} samples. "
    )
    if found.supported:
        return text + f"It supports no extrapolation: {found.supported}."
    error, least, most = found.predict(2 * found.sizes[-1])
    return (
        text
        + f"At twice the largest size it predicts {error:.4f} [{least:.4f}, {most:.4f}], to be checked by a run."
    )


def plot(
    path: Path,
    groups: dict[tuple[str, str], list[Run]],
    fits: dict[tuple[str, str], Fit | str],
    teacher_error: float,
    figure: str,
) -> None:
    """One panel a budget: runs as points, fits as lines with their bootstrap bands."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    budgets = sorted({budget for budget, _ in groups})
    picture, axes = plt.subplots(1, len(budgets), figsize=(5.2 * len(budgets), 4), squeeze=False, sharey=True)
    colors = dict(
        zip(sorted({data for _, data in groups}), ["#1b6ca8", "#c8553d", "#588157", "#7b5ea7"], strict=False)
    )
    for axis, budget in zip(axes[0], budgets, strict=True):
        for (its, data), group in groups.items():
            if its != budget:
                continue
            color = colors.get(data, "black")
            n = np.array([r.n for r in group], float)
            axis.plot(n, [r.error for r in group], "o", color=color, alpha=0.6, markersize=4, label=data)
            found = fits[its, data]
            if isinstance(found, Fit):
                x = np.geomspace(n.min(), n.max(), 80)
                axis.plot(x, found.law(x), color=color)
                band = np.percentile([law(x) for law in found.bootstrap], [2.5, 97.5], axis=0)
                axis.fill_between(x, *band, color=color, alpha=0.15, linewidth=0)
        axis.axhline(teacher_error, color="gray", linestyle="--", linewidth=1, label="teacher")
        axis.set_xscale("log", base=2)
        axis.set_title(f"fixed {budget}")
        axis.set_xlabel("samples")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(f"1 - {figure}")
    axes[0][0].legend()
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)
