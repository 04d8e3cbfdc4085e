"""Shards of region-text pairs in, a student out.

    python jobs/train_student.py --config train --data.dataset /data/photos --run.out /data/student
    ray job submit --working-dir . -- python jobs/train_student.py --config train --run.runtime ray \\
        --run.ranks 8 --run.device cuda --data.dataset /data/photos --run.out /data/student

The same command again goes on from the newest checkpoint. SIGTERM (and Ctrl-C) saves a checkpoint after the step at
hand and ends. Exit codes: 0 trained; 1 more damaged samples than the budget allows, a loss that is no number, or storage
that cannot be reached; 2 a setting is wrong, or run.out holds another run; 143 told to stop, with everything saved.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from jobs import job_log
from jobs.arguments import parse
from jobs.failures import failure
from jobs.first_look import look
from jobs.progress import watched
from jobs.stop_signal import StopSignal
from pipeline.standing import Standing, tell
from training.settings import TrainSettings


def main(argv: list[str] | None = None) -> int:
    settings = parse(TrainSettings, argv, description=__doc__ or "", validate=check)
    job_log.begin()
    try:
        with (
            contextlib.nullcontext() if sys.stderr.isatty() else watched(sys.stderr)
        ):  # a terminal has the trainer's bar
            tell(Standing("start: loading libraries and data"))
            summary = train(settings, StopSignal())
    except Exception as e:  # noqa: BLE001 - `failure` raises what it does not know
        return failure("train_student.py", e)
    print(report(settings, summary))
    return 0 if summary["finished"] else 143


def check(settings: TrainSettings) -> None:
    """A dataset; no relative path inside a submitted job: its folder is a temporary upload."""
    if not settings.data.dataset and not settings.data.mix:
        raise ValueError("data.dataset: is empty; give the folder of a built dataset")
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    mixed = [("data.mix", m.path) for m in settings.data.mix]
    one = [] if mixed else [("data.dataset", settings.data.dataset)]
    for key, path in (*mixed, *one, ("run.out", settings.run.out)):
        if "://" not in path and not path.startswith(("/", "~")):
            raise ValueError(
                f"{key}: '{path}' is relative, and a submitted job runs in a temporary copy of the folder; "
                "give an absolute path or a URL"
            )


def train(settings: TrainSettings, stop: StopSignal) -> dict[str, Any]:
    """Trains in this process, with a progress bar where a terminal can show one, or on a Ray cluster."""
    data, student = settings.data, settings.student
    look(
        [m.path for m in data.mix] or [data.dataset],
        [
            ("student.checkpoint", student.checkpoint),
            ("student.encoder.checkpoint", student.encoder.checkpoint),
        ],
        settings.run.out,
    )
    if settings.run.runtime == "ray":
        from jobs.on_ray.training import train_student

        return train_student(settings, stop)
    from training.train import train
    from training.trainer import Hooks

    return train(settings, hooks=Hooks(stop=stop, progress=sys.stderr.isatty()))


def report(settings: TrainSettings, summary: dict[str, Any]) -> str:
    """Some lines about a run."""
    skipped = ", ".join(f"{n} {reason}" for reason, n in summary["skipped"].items()) or "none"
    lines = [
        f"student    {settings.run.out}/student.safetensors",
        f"steps      {summary['step']} of {summary['n_steps']}; an epoch is {summary['n_samples']} images",
        f"loss       {summary['loss']:.4f}",
        f"images/s   {summary['images_per_s']:.1f}, {100 * summary['data_wait_share']:.1f} % waiting for data",
        f"memory     {summary['peak_rss_gib']:.2f} GiB at most",
        f"damaged    {skipped}",
    ]
    if not summary["finished"]:
        lines[0] = f"stopped    {settings.run.out}: the same command goes on"
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
