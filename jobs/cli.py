"""`regionpairs`: looks at datasets and pools. The jobs that make them are the scripts beside this file.

Starts in well under a second: a command imports what it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import NoReturn

from exports import commands as export_commands
from jobs import pool_commands, removal_commands
from jobs.printable import Printable
from reports import commands as report_commands


def verify(dataset: str, repair: bool = False) -> int:
    """Re-checks every byte of a dataset against its manifest; prints a line a fault.

    repair: removes the damaged parts instead.
    """
    from pipeline.dataset import verify as checks
    from pipeline.dataset.verify import verify as faults_of

    if repair:
        removed = checks.repair(dataset)
        for part in removed:
            print(f"removed: part {part}")
        print(f"{dataset}: {len(removed)} damaged parts removed; the command that built it makes them again")
        return 0
    n = 0
    for line in faults_of(dataset):
        n += 1
        print(line)
    print(f"{dataset}: {n} faults" if n else f"{dataset}: whole, every byte as the manifest says")
    return 1 if n else 0


def view(dataset: str, out: str, n: int) -> int:
    """Draws n samples with their pairs (boxes, concept names, probabilities) into the picture `out`."""
    import storage
    from pipeline.dataset import Dataset
    from reports.contact_sheet import draw

    storage.write_bytes(out, draw(Dataset.open(dataset), n))
    print(storage.absolute(out))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: all is well; 1: faults were found; 2: the command line is wrong, or what it names is not there or
    not readable; 141: nobody reads what it prints.

    Names, captions and messages come from data: whatever is printed passes through `Printable`.
    """
    with (
        contextlib.redirect_stdout(Printable(sys.stdout)),
        contextlib.redirect_stderr(Printable(sys.stderr)),
    ):
        try:
            arguments = vars(_parser().parse_args(argv))
            code = arguments.pop("run")(**arguments)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader, `head` say, has seen enough; nothing is left to flush at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (ValueError, OSError, ModuleNotFoundError) as e:
            text = f"{type(e).__name__}: {e}" if isinstance(e, OSError) else str(e)
            print(f"regionpairs: {' '.join(text.split())}", file=sys.stderr)
            return 2


class _OneLineErrors(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}  (--help lists what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineErrors(prog="regionpairs", description="Looks at datasets and concept pools.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("verify", help="re-checks every byte of a dataset against its manifest")
    command.set_defaults(run=verify)
    command.add_argument("dataset", help="folder or URL of the dataset")
    command.add_argument(
        "--repair", action="store_true", help="removes damaged parts, so that the build makes them again"
    )
    command = commands.add_parser(
        "view", help="draws samples with their pairs: boxes, concept names, probabilities"
    )
    command.set_defaults(run=view)
    command.add_argument("dataset", help="folder or URL of the dataset")
    command.add_argument("--out", default="pairs.png", help="picture to write (default: %(default)s)")
    command.add_argument(
        "--n", type=int, default=20, help="samples, spread over the dataset by key (default: %(default)s)"
    )
    report_commands.add_to(commands)
    export_commands.add_to(commands)
    removal_commands.add_to(commands)
    pool = commands.add_parser("pool", help="looks into concept pools: show, search, diff")
    pool_commands.add_to(pool.add_subparsers(required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
