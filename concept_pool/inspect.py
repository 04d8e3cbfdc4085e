"""Concept pools for people: `regionpairs pool show | search | diff`. Nothing else in this room prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from concept_pool.pool import ConceptPool

_BARS = 32


def show(pool: str, top: int = 30, plot: str | None = None) -> int:
    """Lists the most frequent concepts with a bar each; draws the frequency curve.

    Args:
        pool: folder or URL of the pool
        top: concepts to list
        plot: PNG or SVG file for the frequency curve (needs matplotlib)
    """
    loaded = ConceptPool.load(pool)
    about = loaded.about
    print(f"{pool}: {len(loaded)} classes of {len(loaded.table)} names, hash {loaded.hash[:16]}")
    print(
        f"{about['n_captions']} captions of {about['n_images']} images, threshold {about['min_count']} images"
    )
    _print_rows(loaded.table.slice(0, top).to_pylist())
    if plot:
        draw_frequencies(loaded, plot)
        print(plot)
    return 0


def search(pool: str, text: str, limit: int = 20) -> int:
    """Finds concepts and rejected words by a part of their name or alias.

    Args:
        pool: folder or URL of the pool
        text: what the name or an alias has to contain
        limit: rows to print of each kind
    """
    loaded = ConceptPool.load(pool)
    concepts, rejected = find(loaded, text)
    _print_rows(concepts[:limit])
    for row in concepts[:limit]:
        for example in row["examples"][:1]:
            print(f"  {row['name']}: {example}")
    for row in rejected[:limit]:
        print(f"  rejected: {row['word']} ({row['reason']}), {row['n_mentions']} captions")
    if not concepts and not rejected:
        print(f"nothing in {pool} contains {text!r}")
        return 1
    return 0


def diff(old: str, new: str, limit: int = 20) -> int:
    """Compares two pools: classes gained, lost, moved to another id.

    Args:
        old: folder or URL of a pool
        new: folder or URL of another pool
        limit: names to print of each kind
    """
    from concept_pool.compare import diff_pools

    found = diff_pools(ConceptPool.load(old), ConceptPool.load(new))
    print(f"{old}: {found.n_old} classes; {new}: {found.n_new} classes; {len(found.moved)} have another id")
    for title, names in (("only in the new", found.added), ("only in the old", found.removed)):
        print(f"{title}: {len(names)}")
        for name, n_images in names[:limit]:
            print(f"  {name:<28} {n_images:>9}")
    return 0 if not (found.added or found.removed or found.moved) else 1


#: What the command line mounts under `regionpairs pool`.
POOL_COMMANDS: dict[str, Callable[..., int]] = {"show": show, "search": search, "diff": diff}


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


def _print_rows(rows: list[dict[str, Any]]) -> None:
    most = max((row["n_images"] for row in rows), default=0)
    print(f"{'id':>6} {'name':<24} {'images':>9} {'captions':>9}  ")
    for row in rows:
        bar = "#" * round(_BARS * row["n_images"] / most) if most else ""
        mark = "" if row["is_class"] else " (below the threshold)"
        counts = f"{row['n_images']:>9} {row['n_mentions']:>9}"
        print(f"{row['concept_id']:>6} {row['name']:<24} {counts}  {bar}{mark}")
