"""What the running program is called in its messages: a script's own name, or the command that stands for it."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

_command: str | None = None


def name(script: str) -> str | None:
    """What to call the program whose script is `script`. For "": the command, or None, for which argparse takes argv[0]."""
    return _command or script or None


def typed(text: str) -> str:
    """A script's docstring for who typed the command: `regionpairs build` and not `python jobs/build_pairs.py`."""
    return re.sub(r"python jobs/\w+\.py", _command, text) if _command else text


def parser(
    description: str | None, usage: str | None = None, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A job's own parser: its help is the docstring of its script, line by line."""
    return argparse.ArgumentParser(
        prog=name(""),
        usage=usage,
        description=typed(description or ""),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def as_command(command: str, run: Callable[..., int]) -> Callable[..., int]:
    """A job's `run`, whose messages say the command that it runs as."""

    def named(**arguments: Any) -> int:
        with called(command):
            return run(**arguments)

    return named


@contextlib.contextmanager
def called(command: str) -> Iterator[None]:
    """Within it, messages say `command`: `regionpairs build` and not `build_pairs.py`."""
    global _command
    before, _command = _command, command
    try:
        yield
    finally:
        _command = before
