"""Trainings on a Ray cluster: Ray Train makes one process group of the ranks, the training finds it.

A lost worker restarts all ranks, and they go on from the newest checkpoint in the run's folder, which every node must see.
A rank's own error (a wrong setting, damaged data, a loss that is no number) would come again: it is noted in the folder,
ends the restarts, and is raised on the driver.
"""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

import storage
from jobs.on_ray.cluster import check_here, connect, versions
from jobs.stop_signal import StopSignal
from pipeline.dataset.damage import DamagedDataset
from training.data.budget import BadBudget
from training.data.mixture import open_data
from training.localizers import train as localizers
from training.localizers.settings import LocalizerTrainingSettings, check_sources
from training.settings import TrainSettings
from training.train import train
from training.trainer import Hooks

log = logging.getLogger("regionpairs")

#: Files in a run's folder. Rank 0 looks for the first in every step: the driver of a Ray job cannot signal its workers.
STOP_FILE, ERROR_FILE = "stop-requested", "error.json"
#: Errors that a restart would meet again, by the name that ERROR_FILE has for them.
FINAL: dict[str, type[Exception]] = {
    "FileNotFoundError": FileNotFoundError,
    "FloatingPointError": FloatingPointError,
    "BadBudget": BadBudget,
    "DamagedDataset": DamagedDataset,
    "ValueError": ValueError,
    "Refusal": storage.Refusal,
}


@dataclass(frozen=True)
class Ranks:
    """How many ranks, and what each of them gets. device: cpu | cuda | auto (a GPU each, if the cluster has so many)."""

    count: int
    device: str
    cpus: float = 1.0
    max_failures: int = 3


@dataclass(frozen=True)
class Rank:
    """One rank of a training, as its work sees it. device: of torch, which the process has chosen."""

    index: int
    count: int
    device: str
    stop: Callable[[], bool]


def train_student(settings: TrainSettings, stop: StopSignal) -> dict[str, Any]:
    """Trains a student on `run.ranks` workers; returns its summary. Raises what `training.train.train` raises."""
    open_data(settings.data)  # what is wrong with it is better said before a cluster starts
    run = settings.run
    out = storage.local_folder(run.out, "run.out")
    ranks = Ranks(run.ranks, run.device, run.cpus_per_rank, run.max_failures)
    run_ranks(functools.partial(_student_rank, settings, out), Path(out), ranks, stop)
    return json.loads((Path(out) / "summary.json").read_text(encoding="utf-8"))


def _student_rank(settings: TrainSettings, out: str, rank: Rank) -> None:
    run = replace(settings.run, out=out, device=torch.device(rank.device).type)  # type: ignore[arg-type]
    # No ray.train.report: it makes every step wait for the controller, and metrics.jsonl has it all.
    train(replace(settings, run=run), hooks=Hooks(stop=rank.stop))


def train_localizer(settings: LocalizerTrainingSettings) -> None:
    """Trains a localizer on `workers` workers. Raises what `training.localizers.train.train` raises."""
    check_sources(settings.data)
    out = storage.local_folder(settings.out, "out")
    settings = replace(settings, out=out)
    run_ranks(
        functools.partial(_localizer_rank, settings),
        Path(out),
        Ranks(settings.workers, settings.device),
        without="--workers=0",
    )


def _localizer_rank(settings: LocalizerTrainingSettings, rank: Rank) -> None:
    localizers.train_watched(settings, localizers.Worker(rank.index, rank.count, rank.device))


def run_ranks(
    work: Callable[[Rank], None],
    out: Path,
    ranks: Ranks,
    stop: StopSignal | None = None,
    without: str = "--run.runtime=local",
) -> None:
    """Runs `work` as every rank of one process group (DDP finds it), until all of them return.

    out: the run's folder, on a file system that all nodes share. without: the flag that needs no Ray. Raises one of FINAL
    where a rank did.
    """
    connect(without=without)
    if stop is not None:
        stop.listen()  # a Ray that starts here would answer SIGTERM by ending everything at once
    out.mkdir(parents=True, exist_ok=True)
    for name in (STOP_FILE, ERROR_FILE):
        (out / name).unlink(missing_ok=True)
    device = device_on(ray.cluster_resources(), ranks)
    gpu = device == "cuda"
    trainer = TorchTrainer(
        _rank_loop,
        train_loop_config={"work": work, "out": str(out), "versions": versions()},
        scaling_config=ScalingConfig(
            num_workers=ranks.count,
            use_gpu=gpu,
            resources_per_worker={"CPU": ranks.cpus, **({"GPU": 1} if gpu else {})},
        ),
        run_config=RunConfig(
            name="ray", storage_path=str(out), failure_config=FailureConfig(max_failures=ranks.max_failures)
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
    )
    with _Watch(out / STOP_FILE, stop):
        try:
            trainer.fit()
        finally:
            raise_noted(out)


def device_on(resources: dict[str, float], ranks: Ranks) -> str:
    """cpu or cuda: what `device` means on a cluster, whose head need not have a GPU itself."""
    gpus = int(resources.get("GPU", 0))
    if ranks.device == "auto":
        return "cuda" if gpus >= ranks.count else "cpu"
    if ranks.device.startswith("cuda"):
        if gpus < ranks.count:
            log.warning("%d ranks need as many GPUs, the cluster has %d: waiting for more", ranks.count, gpus)
        return "cuda"
    return "cpu"


def _rank_loop(config: dict[str, Any]) -> None:
    out = Path(config["out"])
    raise_noted(out)  # a restart after an error that would come again
    check_here(config["versions"])
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    context = ray.train.get_context()
    index = context.get_world_rank()
    rank = Rank(
        index,
        context.get_world_size(),
        str(device),
        stop=lambda: index == 0 and (out / STOP_FILE).exists(),
    )
    try:
        _after_a_lost_node(lambda: config["work"](rank))
    except tuple(FINAL.values()) as e:
        name = next(name for name, kind in FINAL.items() if isinstance(e, kind))
        storage.write_bytes(
            str(out / ERROR_FILE),
            json.dumps([name, str(e), *filter(None, [getattr(e, "advice", "")])]).encode(),
        )
        raise


def _after_a_lost_node(work: Callable[[], None]) -> None:
    """The claim on a run's folder that died with its node counts as alive for a while: waits as long as that may be."""
    deadline = time.monotonic() + storage.CLAIMS.stale_s + 2 * storage.CLAIMS.beat_s
    while True:
        try:
            return work()
        except storage.Claimed:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


def raise_noted(out: Path) -> None:
    """Raises the error that a rank left in a run's folder, if there is one."""
    if (out / ERROR_FILE).exists():
        name, *said = json.loads((out / ERROR_FILE).read_text(encoding="utf-8"))
        raise FINAL[name](*said)


class _Watch:
    """Writes the stop file once the signal has come; a thread, since the driver waits inside Ray."""

    def __init__(self, path: Path, stop: StopSignal | None):
        self._path, self._stop, self._over = path, stop, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            if self._stop is not None and self._stop.came:
                self._path.touch()
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)
