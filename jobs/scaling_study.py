"""How does a student's error fall with the number of samples? Nested subsets, several seeds, one page at the end.

    python jobs/scaling_study.py --datasets '{caption: runs/labels/data/caption}' --out runs/scaling --passes 4096
    ray job submit --working-dir . -- python jobs/scaling_study.py --parallel.runtime ray ...

Runs that are done are kept: the same command goes on where it stopped. `--only_report true` reads metrics alone.
"""

from __future__ import annotations

import sys

from evaluation.studies.settings import ScalingSettings
from jobs import job_log
from jobs.arguments import parse
from jobs.failures import failure
from jobs.maps import map_of


def main(argv: list[str] | None = None) -> int:
    settings = parse(ScalingSettings, argv, description=__doc__ or "")
    job_log.begin()
    from evaluation.studies import scaling_study  # after the arguments, so that --help loads no torch

    try:
        print(scaling_study.run(settings, map_of(settings.parallel)))
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("scaling_study.py", e)
    return 0


if __name__ == "__main__":
    sys.exit(main())
