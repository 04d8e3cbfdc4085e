"""Does mirroring pay, when the stored labels stay those of the image as it was? Students under each flip policy.

    python benchmarks/mirrored_views.py --dataset runs/shapes --out runs/mirrored --steps 100 --seeds 0 1 2

The dataset is one of synthetic scenes (jobs/build_pairs.py --config configs/demo.yaml). Students start as the teacher;
the figures are the region top-1 of true boxes on held-out scenes. The same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics

from evaluation.truth import TruthSettings
from jobs.students import Examiner, student_metrics
from pipeline.teachers.settings import TeacherSettings
from training.settings import (
    DataSettings,
    OptimizerSettings,
    RunSettings,
    StudentSettings,
    TrainSettings,
    ViewSettings,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--out", default="runs/mirrored")
    parser.add_argument("--steps", type=int, default=100, help="of 32 images")
    parser.add_argument("--regions", type=int, default=12, help="regions an image and step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=int, default=300, help="held-out scenes")
    arguments = parser.parse_args()
    encoder = TeacherSettings(kind="shapes", batch_images=16)
    examiner = Examiner(encoder, TruthSettings(count=arguments.test))
    top1: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        for flip in ("never", "mirror", "unsided"):
            settings = TrainSettings(
                data=DataSettings(arguments.dataset, batch_images=32, workers=0, cache_images=True),
                view=ViewSettings(
                    short_side=0, long_side=0, flip=flip, max_regions=arguments.regions, pad_to=8
                ),
                student=StudentSettings(encoder),
                optimizer=OptimizerSettings(lr=3e-4, warmup_steps=10),
                run=RunSettings(
                    arguments.out,
                    steps=arguments.steps,
                    seed=seed,
                    device="cpu",
                    threads=1,
                    tensorboard=False,
                ),
            )
            found = student_metrics(f"{flip}-{seed}", settings, examiner, {"flip": flip, "seed": seed})
            top1.setdefault(flip, []).append(found["regions"]["all"]["top1"])
            print(flip, seed, round(top1[flip][-1], 4), flush=True)
    print(
        json.dumps(
            {
                "teacher": round(examiner.teacher["regions"]["all"]["top1"], 4),
                **{flip: round(statistics.mean(values), 4) for flip, values in top1.items()},
                **{f"{flip}_seeds": [round(v, 4) for v in values] for flip, values in top1.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
