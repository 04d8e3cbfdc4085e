"""What a part costs outside the models as datasets grow, and whether an annotator ever waits for its images.

    python benchmarks/scale.py --quick

The last line is JSON:

- `part_cost_ratio`: seconds per part of a build without models (plan, read, mentions, commit, manifest, finish, and the
  resume check of a second run) with many parts over that with few; images and source cost nothing.
- `resume_s_per_100000_parts`: seconds of that second run, every byte checked again, for 100,000 parts.
- `driver_bytes_per_part`, `driver_mib_at`: peak memory of a driver whose workers are simulated (they answer what workers
  answer, without files), each size in a process of its own; its own memory, without the pages of mapped libraries, which
  `driver_resident_mib_at` has too; `driver_within`: at most 512 MiB + 300 bytes per part.
- `linear`: what an image costs more from 4x to 16x as many over what it costs more from 1x to 4x, in CPU seconds of the
  local pipeline with the demo's models. A difference of two builds holds no start-up at all (`benchmarks/linear.py`).
- `hungry_share`, `hungry_share_ray`: whether an annotator ever waits for its images (`benchmarks/hungry.py`).

--quick uses smaller numbers, which the JSON names, and leaves nothing out. It starts at once what takes no
part in a figure of seconds: the simulated drivers, Ray, and the parser of this process (`start_s`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.hungry import hungry, hungry_on_ray
from benchmarks.linear import linear
from benchmarks.part_costs import QuickDrivers, memory, parts, warm_up


def started_at_once(folder: Path) -> dict[str, Any]:
    """Simulated drivers in forks of this process, before it has threads; Ray; a build, which loads what builds need."""
    from jobs.on_ray.cluster import connect  # only where Ray is used at once

    started = time.perf_counter()
    drivers = QuickDrivers()
    with ThreadPoolExecutor(1) as beside:
        warm = beside.submit(warm_up, folder)
        connect()
        connect_s = time.perf_counter() - started
        warm.result()
    return {
        **drivers.results(),
        "ray_connect_s": round(connect_s, 1),
        "start_s": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller numbers")
    parser.add_argument("--only", help="one of: parts, memory, linear, hungry, ray")
    parser.add_argument("--folder", help="where to write (default: memory, if there is room, else temporary)")
    options = parser.parse_args()
    folder = options.folder or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    result: dict[str, Any] = {"quick": options.quick, "load_average": round(os.getloadavg()[0], 1)}
    steps = {"memory": memory, "parts": parts, "linear": linear, "hungry": hungry, "ray": hungry_on_ray}
    if options.quick and not options.only:
        with tempfile.TemporaryDirectory(dir=folder, prefix="scale-") as out:
            result |= started_at_once(Path(out))
        steps = {name: steps[name] for name in ("linear", "parts", "hungry", "ray")}  # Ray settles meanwhile
    for name, measure in steps.items():
        if options.only in (None, name):
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=folder, prefix="scale-") as out:
                result |= measure(Path(out), options.quick)
            result[f"{name}_s"] = round(time.perf_counter() - started, 1)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
