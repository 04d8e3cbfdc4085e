"""Workers that hold no models start without torch: readers, committers, and the driver know only what they need."""

from __future__ import annotations

import json
import subprocess
import sys


def test_knowing_the_stages_takes_no_torch():
    code = "import json, sys, pipeline.stages, pipeline.stages.index; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "torchvision", "ray", "pandas"}.isdisjoint(json.loads(done.stdout))
