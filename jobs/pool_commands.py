"""`regionpairs pool show | search | diff`: concept pools for people."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import Any

from jobs.look_commands import add_json

_BARS = 32


def add_to(commands: Any) -> None:
    """The three commands, as parsers of `commands` (argparse's subparsers); each sets `run` to its function."""
    command = commands.add_parser("show", help="the most frequent concepts, and the frequency curve")
    command.set_defaults(run=show)
    command.add_argument("pool", help="folder or URL of the pool")
    command.add_argument("--top", type=int, default=30, help="concepts to list (default: %(default)s)")
    command.add_argument("--plot", help="PNG or SVG file for the frequency curve (needs matplotlib)")
    add_json(command)
    command = commands.add_parser("search", help="concepts and rejected words by a part of a name or alias")
    command.set_defaults(run=search)
    command.add_argument("pool", help="folder or URL of the pool")
    command.add_argument("text", help="what the name or an alias has to contain")
    command.add_argument("--limit", type=int, default=20, help="rows of each kind (default: %(default)s)")
    add_json(command)
    command = commands.add_parser("diff", help="classes gained, lost and moved between two pools")
    command.set_defaults(run=diff)
    command.add_argument("old", help="folder or URL of a pool")
    command.add_argument("new", help="folder or URL of another pool")
    command.add_argument("--limit", type=int, default=20, help="names of each kind (default: %(default)s)")
    add_json(command)


def show(pool: str, top: int, plot: str | None, as_json: bool) -> int:
    """Lists the most frequent concepts with a bar each; draws the frequency curve."""
    from concept_pool.inspect import draw_frequencies
    from concept_pool.pool import ConceptPool

    loaded = ConceptPool.load(pool)
    about = loaded.about
    if as_json:
        if plot:
            draw_frequencies(loaded, plot)
        rows = loaded.table.slice(0, top).to_pylist()
        print(
            json.dumps(
                {
                    "pool": pool,
                    "n_classes": len(loaded),
                    "hash": loaded.hash,
                    "about": about,
                    "concepts": rows,
                }
            )
        )
        return 0
    print(f"{pool}: {len(loaded)} classes of {len(loaded.table)} names, hash {loaded.hash[:16]}")
    print(
        f"{about['n_captions']} captions of {about['n_images']} images, threshold {about['min_count']} images"
    )
    _print_rows(loaded.table.slice(0, top).to_pylist())
    if plot:
        draw_frequencies(loaded, plot)
        print(plot)
    return 0


def search(pool: str, text: str, limit: int, as_json: bool) -> int:
    """Finds concepts and rejected words by a part of their name or alias."""
    from concept_pool.inspect import find
    from concept_pool.pool import ConceptPool

    loaded = ConceptPool.load(pool)
    concepts, rejected = find(loaded, text)
    if as_json:
        print(json.dumps({"pool": pool, "concepts": concepts[:limit], "rejected": rejected[:limit]}))
        return 0 if concepts or rejected else 1
    _print_rows(concepts[:limit])
    for row in concepts[:limit]:
        for example in row["examples"][:1]:
            print(f"  {row['name']}: {textwrap.shorten(example, 200, placeholder='...')}")
    for row in rejected[:limit]:
        print(f"  rejected: {row['word']} ({row['reason']}), {row['n_mentions']} captions")
    if not concepts and not rejected:
        print(f"nothing in {pool} contains {text!r}")
        return 1
    return 0


def diff(old: str, new: str, limit: int, as_json: bool) -> int:
    """Compares two pools: classes gained, lost, moved to another id."""
    from concept_pool.compare import diff_pools
    from concept_pool.pool import ConceptPool

    found = diff_pools(ConceptPool.load(old), ConceptPool.load(new))
    same = not (found.added or found.removed or found.moved)
    if as_json:
        print(json.dumps(asdict(found)))
        return 0 if same else 1
    print(f"{old}: {found.n_old} classes; {new}: {found.n_new} classes; {len(found.moved)} have another id")
    for title, names in (("only in the new", found.added), ("only in the old", found.removed)):
        print(f"{title}: {len(names)}")
        for name, n_images in names[:limit]:
            print(f"  {name:<28} {n_images:>9}")
    return 0 if same else 1


def _print_rows(rows: list[dict[str, Any]]) -> None:
    most = max((row["n_images"] for row in rows), default=0)
    print(f"{'id':>6} {'name':<24} {'images':>9} {'captions':>9}  ")
    for row in rows:
        bar = "#" * round(_BARS * row["n_images"] / most) if most else ""
        mark = "" if row["is_class"] else " (below the threshold)"
        counts = f"{row['n_images']:>9} {row['n_mentions']:>9}"
        print(f"{row['concept_id']:>6} {row['name']:<24} {counts}  {bar}{mark}")
