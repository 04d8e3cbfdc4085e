"""Shards of region-text pairs in, a student out.

    python jobs/train_student.py --config train --data.dataset /data/photos --run.out /data/student
    ray job submit --working-dir . -- python jobs/train_student.py --config train --run.runtime ray \\
        --run.ranks 8 --run.device cuda --data.dataset /data/photos --run.out /data/student

The same command again goes on from the newest checkpoint. SIGTERM (and Ctrl-C) saves a checkpoint after the step at
hand and ends. Exit codes: 0 trained; 1 the data is worse than the budget allows; 2 a setting is wrong, or run.out
holds another run; 143 told to stop, with everything saved.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.arguments import parse
from pipeline.dataset.manifest import read_manifest
from training.settings import TrainSettings, validate
from training.train import train
from training.trainer import Hooks

log = logging.getLogger("regionpairs")

#: Rank 0 looks for this file below run.out after every step; the driver of a Ray job cannot signal its workers.
STOP_FILE = "stop-requested"


def main(argv: list[str] | None = None) -> int:
    settings = parse(TrainSettings, argv, description=__doc__ or "", validate=check)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout
    )
    stop = StopSignal()
    try:
        summary = run_ray(settings, stop) if settings.run.runtime == "ray" else run_here(settings, stop)
    except (ValueError, FileNotFoundError) as e:
        print(f"train_student.py: {' '.join(str(e).split())}", file=sys.stderr)
        return 2
    except RuntimeError as e:
        if "data.bad_budget" not in str(e):
            raise
        print(f"train_student.py: {e}", file=sys.stderr)
        return 1
    print(report(settings, summary))
    return 0 if summary["finished"] else 143


def check(settings: TrainSettings) -> None:
    """`validate`, and no relative path inside a submitted job: its folder is a temporary upload."""
    validate(settings)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    for key, path in (("data.dataset", settings.data.dataset), ("run.out", settings.run.out)):
        if "://" not in path and not path.startswith(("/", "~")):
            raise ValueError(
                f"{key}: '{path}' is relative, and a submitted job runs in a temporary copy of the folder; "
                "give an absolute path or a URL"
            )


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


def run_here(settings: TrainSettings, stop: StopSignal) -> dict[str, Any]:
    """Trains in this process, with a progress bar."""
    return train(settings, hooks=Hooks(stop=stop, progress=True))


def run_ray(settings: TrainSettings, stop: StopSignal) -> dict[str, Any]:
    """Trains on `run.ranks` workers of a Ray cluster (Ray Train's TorchTrainer: one process group, DDP).

    A lost worker restarts all of them, and they go on from the newest checkpoint in run.out, which every node must
    see. Raises what a worker raised, where that was a wrong setting or damaged data.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    read_manifest(settings.data.dataset)  # what is wrong with it is better said before a cluster starts
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS") or "local", logging_level=logging.WARNING)
        stop.listen()  # a Ray that starts here would answer SIGTERM by ending everything at once
    out = Path(settings.run.out).expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    (out / STOP_FILE).unlink(missing_ok=True)
    gpu = settings.run.device == "cuda"
    trainer = TorchTrainer(
        rank_loop,
        train_loop_config={"settings": settings, "out": str(out)},
        scaling_config=ScalingConfig(
            num_workers=settings.run.ranks,
            use_gpu=gpu,
            resources_per_worker={"CPU": settings.run.cpus_per_rank, **({"GPU": 1} if gpu else {})},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(out),
            failure_config=FailureConfig(max_failures=settings.run.max_failures),
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
    )
    with _Watch(out / STOP_FILE, stop):
        trainer.fit()
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def rank_loop(config: dict[str, Any]) -> None:
    """One rank of a Ray training: Ray has made the process group, `train` finds it."""
    import ray.train
    import torch

    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    first = ray.train.get_context().get_world_rank() == 0
    stop_file = Path(config["out"]) / STOP_FILE
    settings: TrainSettings = config["settings"]
    settings = replace(settings, run=replace(settings.run, out=config["out"]))
    # No ray.train.report: it makes every step wait for the controller, and metrics.jsonl has it all.
    train(settings, hooks=Hooks(stop=lambda: first and stop_file.exists()))


class _Watch:
    """Writes the stop file once the signal has come; a thread, since the driver waits inside Ray."""

    def __init__(self, path: Path, stop: StopSignal):
        self._path, self._stop, self._over = path, stop, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            if self._stop.came:
                self._path.touch()
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)


def report(settings: TrainSettings, summary: dict[str, Any]) -> str:
    """Some lines about a run."""
    skipped = ", ".join(f"{n} {reason}" for reason, n in summary["skipped"].items()) or "none"
    lines = [
        f"student    {settings.run.out}/student.safetensors",
        f"steps      {summary['step']} of {summary['n_steps']}; an epoch is {summary['n_samples']} images",
        f"loss       {summary['loss']:.4f}",
        f"images/s   {summary['images_per_s']:.1f}, {100 * summary['data_wait_share']:.1f} % waiting for data",
        f"memory     {summary['peak_rss_gib']:.2f} GiB at most",
        f"corrupt    {skipped}",
    ]
    if not summary["finished"]:
        lines[0] = f"stopped    {settings.run.out}: the same command goes on"
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
