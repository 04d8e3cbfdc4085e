"""`regionpairs remove`: a dataset without listed samples, beside it. What it needs is imported when it runs."""

from __future__ import annotations

import sys
from typing import Any

#: Entries that no sample has and that are named.
NAMED = 5


def add_to(commands: Any) -> None:
    """The command, as a parser of `commands` (argparse's subparsers); it sets `run` to its function."""
    command = commands.add_parser("remove", help="writes a dataset without the samples of a list, beside it")
    command.set_defaults(run=run)
    command.add_argument("dataset", help="folder or URL of the dataset")
    command.add_argument(
        "--list", dest="listed", required=True, help="file with a key, source key or image's sha256 a line"
    )
    command.add_argument("--out", required=True, help="folder or URL of the new dataset")
    command.add_argument(
        "--runtime",
        choices=("local", "ray"),
        default="local",
        help="this process, or a Ray cluster (default: %(default)s)",
    )
    command.add_argument(
        "--recheck",
        choices=("bytes", "size"),
        default="bytes",
        help="how shards that stay as they are are looked at first (default: %(default)s)",
    )


def run(dataset: str, listed: str, out: str, runtime: str, recheck: str) -> int:
    """Writes the new dataset; exit codes as of build_pairs.py."""
    from jobs.build_pairs import runner
    from jobs.outcome import outcome
    from jobs.relabel import settings_of
    from pipeline.block_list import BlockList
    from pipeline.remove import remove

    not_found: list[str] = []

    def make() -> Any:
        settings = settings_of(dataset, ["--out", out, "--runtime", runtime, "--recheck", recheck])
        summary = remove(dataset, settings, BlockList.read(listed), runner(settings))
        not_found.extend(summary["not_found"])
        return settings, summary

    code = outcome("regionpairs remove", make)
    if not_found:
        shown = ", ".join(not_found[:NAMED]) + (", ..." if len(not_found) > NAMED else "")
        print(
            f"regionpairs remove: {len(not_found)} entries of the list are of no sample: {shown}",
            file=sys.stderr,
        )
    return code
