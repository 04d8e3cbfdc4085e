"""`regionpairs attach | images`: a user's columns beside a dataset; where the images of a label-only one lie.

What a command needs is imported when it runs.
"""

from __future__ import annotations

from typing import Any


def add_to(commands: Any) -> None:
    """The commands, as parsers of `commands` (argparse's subparsers); each sets `run` to its function."""
    command = commands.add_parser(
        "attach", help="puts a user's columns beside a dataset, by key or key and region"
    )
    command.set_defaults(run=attach)
    command.add_argument("dataset", help="folder or URL of the dataset")
    command.add_argument("--parquet", required=True, help="file with columns key, perhaps region, and others")
    command.add_argument("--name", required=True, help="namespace of the columns")
    command.add_argument("--replace", action="store_true", help="write over other columns of that name")
    command = commands.add_parser("images", help="says where the images of a label-only dataset lie now")
    command.set_defaults(run=images)
    command.add_argument("dataset", help="folder or URL of the dataset that holds labels alone")
    command.add_argument("--at", required=True, help="folder or URL of the dataset with the images")


def attach(dataset: str, parquet: str, name: str, replace: bool) -> int:
    """Attaches columns; prints their names and what became of the rows."""
    from pipeline.attach import attach as write

    found = write(dataset, parquet, name, replace)
    counts = found.counts
    print(f"columns/{name}: {', '.join(found.columns)} by {'key and region' if found.by_region else 'key'}")
    print(
        f"{counts['n_attached']} of {counts['n_rows']} rows attached, {counts['n_unknown']} of no sample, "
        f"{counts['n_duplicates']} repeat a key"
    )
    return 0


def images(dataset: str, at: str) -> int:
    """Writes down another place of the images, once it is certain that they lie there."""
    import storage
    from pipeline.dataset import Layout, check_format
    from pipeline.dataset.images import move

    layout = Layout(storage.location(dataset, "dataset"))
    print(move(layout, check_format(layout), at).url)
    return 0
