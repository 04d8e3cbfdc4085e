"""How a job ends that cannot go on: one line on stderr and an exit code, for everything that a user can cause."""

from __future__ import annotations

import sys

from jobs import program
from jobs.hints import with_hint
from jobs.printable import printable

#: Characters of the line.
MAX_CHARS = 1500


def failure(script: str, error: Exception) -> int:
    """Says in one line why a job ends; returns its exit code. Raises `error` again if it is a fault of the program.

    2: a setting is wrong, or what it names is not there, is no such file, or may not be read or written. 1: a disk, a
    network or the input failed on the way, a dataset that is read is damaged, another writer took over, a loss is no
    number; the same command goes on.
    """
    cause = getattr(
        error, "cause", None
    )  # Ray's errors carry the worker's own, and have its traceback for a message
    if isinstance(cause, Exception):
        error = cause
    exit_code = code(error)
    if not exit_code:
        raise error
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and type(error).__name__ not in text:
        text = f"{type(error).__name__}: {text}"
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS - 3] + "..."
    text = with_hint(text, error)
    print(printable(f"{program.name(script)}: {text}"), file=sys.stderr)
    return exit_code


def code(error: Exception) -> int:
    """1 or 2; 0 for an error that nobody foresaw."""
    import storage  # only now: `--help` is to start at once
    from pipeline.dataset.damage import DamagedDataset
    from pipeline.sources import InputChanged

    if isinstance(error, (storage.ClaimLost, InputChanged, DamagedDataset, FloatingPointError, MemoryError)):
        return 1
    if type(error).__name__ == "BadBudget":  # the trainer's; it is not loaded where nothing is trained
        return 1
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)):
        return 2
    if isinstance(error, OSError):
        return 1
    # RecursionError: a document of a user's that holds itself, or too many lists inside each other
    return 2 if isinstance(error, (ValueError, ModuleNotFoundError, RecursionError)) else 0
