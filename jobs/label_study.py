"""Which labels teach? Students of one dataset under other label policies, losses and controls, seed by seed.

    python jobs/label_study.py --dataset data/shapes --out runs/labels --train.run.steps 200

The dataset needs stored region embeddings (align.region_embeddings). Writes OUT/results.csv and OUT/table.md; the same
command goes on where it stopped.
"""

from __future__ import annotations

import sys

from evaluation.studies.settings import LabelStudySettings
from jobs import job_log
from jobs.arguments import parse
from jobs.failures import failure
from jobs.maps import map_of


def main(argv: list[str] | None = None) -> int:
    settings = parse(LabelStudySettings, argv, description=__doc__ or "")
    job_log.begin()
    from evaluation.studies import label_study  # after the arguments, so that --help loads no torch

    try:
        label_study.run(settings, map_of(settings.parallel))
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("label_study.py", e)
    return 0


if __name__ == "__main__":
    sys.exit(main())
