"""`regionpairs export`: a dataset in another program's format. What it needs is imported when it runs."""

from __future__ import annotations

import json
from typing import Any

from exports import FORMATS


def add_to(commands: Any) -> None:
    """The command, as a parser of `commands` (argparse's subparsers); it sets `run` to its function."""
    command = commands.add_parser("export", help="writes a dataset in another program's format")
    command.set_defaults(run=run, told=True)
    command.add_argument("dataset", help="folder or URL of the dataset")
    command.add_argument("--format", dest="form", required=True, choices=FORMATS, help="what to write")
    command.add_argument("--out", required=True, help="folder or URL to write to; it must be empty")
    command.add_argument(
        "--images", action="store_true", help="also the images, as images/<key>.<ext> (hf holds them anyway)"
    )
    command.add_argument("--json", action="store_true", dest="as_json", help="the record, for programs")


def run(dataset: str, form: str, out: str, images: bool, as_json: bool = False) -> int:
    """Writes the export and prints what is in it."""
    import storage
    from exports.export import export
    from pipeline.dataset import Dataset

    record = export(Dataset.open(dataset), form, out, images)
    if as_json:
        print(json.dumps({"out": storage.absolute(out), **record}))
        return 0
    left_out = f"; {record['n_left_out']} pairs have no place in this format" if record["n_left_out"] else ""
    print(f"{storage.absolute(out)}: {record['n_samples']} images, {record['n_pairs']} pairs{left_out}")
    return 0
