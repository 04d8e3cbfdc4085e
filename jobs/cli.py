"""`regionpairs`: looks at datasets and pools. The jobs that make them are the scripts beside this file."""

from __future__ import annotations

import os
import sys
from typing import Any

from jsonargparse import auto_cli

from concept_pool.inspect import POOL_COMMANDS
from pipeline.dataset.verify import verify as faults_of
from reports.commands import report, view


def verify(dataset: str) -> int:
    """Re-checks every byte of a dataset against its manifest.

    Args:
        dataset: folder or URL of the dataset
    """
    n = 0
    for line in faults_of(dataset):
        n += 1
        print(line)
    print(f"{dataset}: {n} faults" if n else f"{dataset}: whole, every byte as the manifest says")
    return 1 if n else 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: all is well; 1: faults were found; 2: the command line is wrong; 141: nobody reads what it prints."""
    commands: Any = {"verify": verify, "view": view, "report": report, "pool": POOL_COMMANDS}
    try:
        code = auto_cli(commands, args=argv, as_positional=True, prog="regionpairs") or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` say, has seen enough; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, FileNotFoundError) as e:
        print(f"regionpairs: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
