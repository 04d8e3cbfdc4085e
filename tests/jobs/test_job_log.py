"""A job's log has its own lines and what others warn of, no notices of theirs."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import logging
from jobs import job_log
job_log.begin()
logging.getLogger("regionpairs").info("1 of 2 parts")
logging.getLogger("open_clip").info("Loaded built-in RN50 model config.")
logging.getLogger("open_clip").warning("weights are \\x1b[31mold")
logging.getLogger("huggingface_hub").warning("said once, elsewhere")
"""


def test_own_lines_and_the_warnings_of_others_with_a_time_and_without_escapes():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    assert [text for _, _, text in lines] == ["1 of 2 parts", r"weights are \x1b[31mold"]
    assert all(len(time) == 8 for time, _, _ in lines)
