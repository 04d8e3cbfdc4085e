"""The log of a job: this project's lines, and what other libraries warn of."""

from __future__ import annotations

import logging
import sys

from jobs.printable import Printable


def begin() -> None:
    """Sends the log to stdout, a time before each line. Notices of other libraries (a file was read) are none of it;
    their warnings are, each once."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=Printable(sys.stdout),
    )
    for name in ("regionpairs", "storage"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own, on stderr
