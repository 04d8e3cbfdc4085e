"""A build that is cut, its resume, new labels and a training, on a Ray of its own: `python ray_story.py URL FOLDER`.

FOLDER holds `local`, the same dataset on the disk; the students come to FOLDER/student-s3 and FOLDER/student-local.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import ray

from jobs.on_ray.build import RayRunner
from jobs.train_student import main as train
from pipeline.build import build
from pipeline.relabel import relabel
from tests.reliability.test_object_store import OTHER, settings_of


class Interrupted(RayRunner):
    """A driver that goes away after its first commit."""

    def run(self, stages: Any, job: Any, parts: Any) -> Any:
        for payload in super().run(stages, job, parts):
            yield payload
            raise KeyboardInterrupt


def student(dataset: str, out: str) -> None:
    flags = {
        "data.dataset": dataset, "run.out": out, "data.buffer_dir": f"{out}-buffer", "data.workers": 1,
        "data.batch_images": 2, "data.window_shards": 2, "run.runtime": "ray", "run.ranks": 2, "run.steps": 3,
        "run.cpus_per_rank": 0.5, "run.held_out": 0, "run.evaluate_every": 0, "run.log_keys": "true",
    }  # fmt: skip
    assert train(["--config", "train_tiny", *(f"--{k}={v}" for k, v in flags.items())]) == 0


def main(root: str, folder: str) -> None:
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    settings = dataclasses.replace(
        settings_of(f"{root}/pairs", f"{root}/input"), runtime="ray", workers=2, samples_per_shard=3
    )
    try:
        build(settings, Interrupted())
    except KeyboardInterrupt:
        print("interrupted")
    print("built", build(settings, RayRunner())["last_run"]["n_parts_built"])
    relabel(settings.out, dataclasses.replace(settings, out=f"{root}/relabelled", align=OTHER), RayRunner())
    student(settings.out, f"{folder}/student-s3")
    student(f"{folder}/local", f"{folder}/student-local")


if __name__ == "__main__":
    main(*sys.argv[1:])
