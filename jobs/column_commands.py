"""`regionpairs images`: where the images of a label-only dataset lie. What it needs is imported when it runs."""

from __future__ import annotations

from typing import Any


def add_to(commands: Any) -> None:
    """The commands, as parsers of `commands` (argparse's subparsers); each sets `run` to its function."""
    command = commands.add_parser("images", help="says where the images of a label-only dataset lie now")
    command.set_defaults(run=images)
    command.add_argument("dataset", help="folder or URL of the dataset that holds labels alone")
    command.add_argument("--at", required=True, help="folder or URL of the dataset with the images")


def images(dataset: str, at: str) -> int:
    """Writes down another place of the images, once it is certain that they lie there."""
    import storage
    from pipeline.dataset import Layout, check_format
    from pipeline.dataset.images import move

    layout = Layout(storage.location(dataset, "dataset"))
    print(move(layout, check_format(layout), at).url)
    return 0
