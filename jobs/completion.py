"""`regionpairs completion SHELL`: a script that completes commands and every key of every job.

By shtab: the script is made once and runs without Python, so a tab costs nothing. (argcomplete starts the program at every
tab.)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

#: Shells that shtab knows.
SHELLS = ("bash", "zsh", "tcsh")


def add_to(commands: Any, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """The command, as a parser of `commands` (argparse's subparsers); it sets `run` to its function.

    whole: makes the parser that is completed, with every key.
    """
    command = commands.add_parser("completion", help="prints a script that completes commands and keys")
    command.set_defaults(run=partial(completion, whole))
    command.add_argument("shell", choices=SHELLS, help="whose script")


def completion(whole: Callable[[], argparse.ArgumentParser], shell: str) -> int:
    """Prints the script; `docs/cli.md` says where it goes."""
    import shtab

    print(shtab.complete(whole(), shell))
    return 0
