"""Looking into a concept pool: names by a part of them, and the curve of their frequencies."""

from __future__ import annotations

from typing import Any

from concept_pool.pool import ConceptPool


def find(pool: ConceptPool, text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of concepts whose name or alias contains `text`, in id order, and rows of such rejected words."""
    wanted = text.lower()
    concepts = [
        row
        for row in pool.table.to_pylist()
        if any(wanted in name for name in (row["name"], *row["aliases"]))
    ]
    return concepts, [row for row in pool.rejected.to_pylist() if wanted in row["word"]]


def draw_frequencies(pool: ConceptPool, path: str) -> None:
    """The frequency curve of the concepts (images against rank, both logarithmic) as PNG or SVG."""
    from matplotlib.figure import Figure

    n_images = [n for n in pool.table["n_images"].to_pylist() if n > 0]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(range(1, len(n_images) + 1), n_images, lw=1.5, color="tab:blue")
    threshold = pool.about.get("min_count", 1)
    axes.axhline(threshold, ls="--", lw=1, color="tab:red", label=f"threshold: {threshold} images")
    axes.set(
        xlabel="rank of the concept",
        ylabel="images that name it",
        title=f"{len(pool)} classes of {len(n_images)} names",
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, which="both", lw=0.4)
    with open(path, "wb") as file:
        figure.savefig(file, format=path.rsplit(".", 1)[-1], dpi=150)
