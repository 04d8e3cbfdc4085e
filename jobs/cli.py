"""`regionpairs`: one command for everything (docs/cli.md). The jobs are also the scripts beside this file.

Starts in well under a second: a command imports what it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import sys
from typing import Any, NoReturn

from exports import commands as export_commands
from jobs import (
    average_students,
    column_commands,
    completion,
    doctor,
    hash_commands,
    job_commands,
    look_commands,
    merge_labels,
    pool_commands,
    removal_commands,
)
from jobs.failures import code as code_of
from jobs.hints import with_hint
from jobs.printable import Printable
from jobs.progress import told
from reports import commands as report_commands


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: all is well; 1: faults were found; 141: nobody reads what it prints; else that of the error
    (`jobs/failures.py`), as of a job.

    Names, captions and messages come from data: whatever is printed passes through `Printable`.
    """
    argv = sys.argv[1:] if argv is None else argv
    if job := job_commands.find(argv):
        return job_commands.run(*job)
    with (
        contextlib.redirect_stdout(Printable(sys.stdout)),
        contextlib.redirect_stderr(Printable(sys.stderr)),
    ):
        try:
            arguments = vars(parser().parse_args(argv))
            with told() if arguments.pop("told", False) else contextlib.nullcontext():
                code = arguments.pop("run")(**arguments)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader, `head` say, has seen enough; nothing is left to flush at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (ValueError, OSError, ModuleNotFoundError) as e:
            text = f"{type(e).__name__}: {e}" if isinstance(e, OSError) else str(e)
            print(f"regionpairs: {with_hint(' '.join(text.split()), e)}", file=sys.stderr)
            return code_of(e)


class _OneLineErrors(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}  (--help lists what there is)\n")


def parser(keys: bool = False) -> argparse.ArgumentParser:
    """The whole command line. keys: with every key of every job, as shell completion needs it."""
    whole = _OneLineErrors(
        prog="regionpairs",
        description="Region-text pairs from captioned images: builds, trains, and looks at what was made.",
        epilog="`regionpairs COMMAND --help` says more. Exit codes, --json and shell completion: docs/cli.md.",
    )
    whole.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="the version")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    pool = commands.add_parser("pool", help="concept pools: build, show, search, diff")
    pools = pool.add_subparsers(required=True, metavar="COMMAND")
    job_commands.add_to(commands, pools, keys)
    pool_commands.add_to(pools)
    look_commands.add_to(commands)
    report_commands.add_to(commands)
    export_commands.add_to(commands)
    removal_commands.add_to(commands)
    merge_labels.add_to(commands)
    average_students.add_to(commands)
    column_commands.add_to(commands)
    hash_commands.add_to(commands)
    doctor.add_to(commands)
    completion.add_to(commands, lambda: parser(keys=True))
    _describe(commands)
    _describe(pools)
    return whole


def _describe(commands: Any) -> None:
    """Gives every command's own help the sentence that the list of commands has."""
    for listed in commands._choices_actions:
        command = commands.choices[listed.dest]
        sentence = f"{listed.help[0].upper()}{listed.help[1:]}."
        command.description = command.description or sentence
        command.epilog = command.epilog or "What it prints, exit codes and --json: docs/cli.md."


class _Version(argparse.Action):
    """Looks the version up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"regionpairs {importlib.metadata.version('regionpairs')}")
        parser.exit()


if __name__ == "__main__":
    raise SystemExit(main())
