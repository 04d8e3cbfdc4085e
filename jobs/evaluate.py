"""How good are a model's regions, and a dataset's pairs, where the truth is known?

    python jobs/evaluate.py --truth.kind shapes --truth.count 500                    # the embedded teacher
    python jobs/evaluate.py --student runs/student                                   # a student of it
    python jobs/evaluate.py --dataset data/demo --truth.seed 0 --truth.count 512     # the pairs of a dataset
    python jobs/evaluate.py --dataset data/photos --truth.kind coco --truth.images DIR --truth.instances FILE
    python jobs/evaluate.py --teacher.kind photo --truth.kind coco --truth.images DIR --truth.instances FILE

Prints a summary and writes the whole report as JSON. Exit code 2: a setting is wrong, or a file is missing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import storage
from evaluation.settings import EvaluateSettings
from jobs.arguments import parse
from jobs.failures import failure
from jobs.first_look import look
from jobs.progress import told
from pipeline.standing import Standing, tell


def main(argv: list[str] | None = None) -> int:
    settings = parse(EvaluateSettings, argv, description=__doc__ or "")
    try:
        with told():
            tell(Standing("start: loading libraries and models"))
            truth = settings.truth
            named = [
                ("student", settings.student),
                ("truth.images", truth.images),
                ("truth.instances", truth.instances),
            ]
            look([settings.dataset] if settings.dataset else [], named, settings.out or "")
            from evaluation.evaluate import (
                evaluate,
                lines,
            )  # after the arguments, so that --help loads no torch

            report = evaluate(settings)
        if settings.out:
            document = json.dumps({"settings": asdict(settings), **report}, indent=1)
            storage.write_bytes(storage.absolute(settings.out), document.encode())
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("evaluate.py", e)
    print("\n".join(lines(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
