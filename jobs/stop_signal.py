"""SIGTERM and Ctrl-C as a question that a training asks in every step."""

from __future__ import annotations

import logging
import signal
from typing import Any

log = logging.getLogger("regionpairs")


class StopSignal:
    """Whether SIGTERM or SIGINT came. A second one ends the process at once."""

    def __init__(self) -> None:
        self.came = False
        self.listen()

    def listen(self) -> None:
        """Takes the two signals, also from a library that took them meanwhile."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self.came:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.came = True
        log.info("told to stop: a checkpoint follows after this step")

    def __call__(self) -> bool:
        return self.came
