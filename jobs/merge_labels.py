"""Keeps those pairs of a dataset that other labelled datasets of the same images have too, in a folder beside them.

    python jobs/merge_labels.py DATASET OTHER [OTHER ...] --out /data/agreed --iou 0.5

All have one concept pool and one samples_per_shard; localizer, teacher and label policy may differ. A pair of DATASET stays
if OTHER has a pair of the same concept at an IoU of at least --iou (with more than one OTHER: if --votes of them have).
Any other becomes a region with the reason `not agreed`. The same command again goes on where it stopped. Exit codes as of
build_pairs.py.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs import program


def main(argv: list[str] | None = None) -> int:
    parser = program.parser(__doc__)
    add_arguments(parser)
    return run(**vars(parser.parse_args(argv)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the job takes, for the script and the command."""
    parser.add_argument("dataset", help="folder or URL of the dataset whose pairs are looked at")
    parser.add_argument("others", nargs="+", metavar="OTHER", help="a dataset that has to agree")
    parser.add_argument("--out", required=True, help="folder or URL of the new dataset")
    parser.add_argument("--iou", type=float, default=0.5, help="least overlap (default: %(default)s)")
    parser.add_argument("--votes", type=int, default=0, help="how many OTHERs must agree; 0: all (default)")
    parser.add_argument(
        "--runtime",
        choices=("local", "ray"),
        default="local",
        help="this process, or a Ray cluster (default: %(default)s)",
    )


def add_to(commands: Any) -> None:
    """The command `merge`, as a parser of `commands` (argparse's subparsers)."""
    command = commands.add_parser(
        "merge", help="keeps the pairs that labelled datasets of the same images agree on"
    )
    command.set_defaults(run=program.as_command("regionpairs merge", run))
    add_arguments(command)


def run(dataset: str, others: list[str], out: str, iou: float, votes: int, runtime: str) -> int:
    """Writes the new dataset; returns the exit code."""
    from jobs.build_pairs import runner
    from jobs.outcome import outcome
    from jobs.relabel import settings_of

    def make() -> Any:
        from pipeline.merge import merge

        settings = settings_of(dataset, ["--out", out, "--runtime", runtime])
        return settings, merge(dataset, others, settings, runner(settings), iou, votes)

    return outcome("merge_labels.py", make)


if __name__ == "__main__":
    raise SystemExit(main())
