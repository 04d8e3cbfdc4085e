"""The jobs of `benchmarks/fake_cluster.py`, each in a process of its own: on the cluster, and as their local twins.

Run as a program it is one of them: `python -m benchmarks.fake_jobs NAME ARGUMENTS`. Workers of a build ask for GPUs as with
`teacher.device: cuda`, and compute without.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.fake_nodes import ROOT

#: Seconds until a job must be through.
JOB_S = 400.0
#: Ranks of the training, each with the CPUs of a whole node.
RANKS, NODE_CPUS = 2, 2


def build(out: Path, n: int, runtime: str, **more: object) -> list[str]:
    """`build_pairs.py` on n images."""
    return ["build", *_flags(
        {
            "out": out, "source.kind": "shapes", "source.count": n, "source.size": 96, "samples_per_shard": 4,
            "localizer.kind": "grid", "localizer.max_proposals": 20, "teacher.kind": "shapes",
            "teacher.batch_images": 4, "teacher.device": "auto", "pool.min_count": 1, "align.tau": 0.1,
            "align.threshold": 0.2, "align.region_embeddings": "fp16", "runtime": runtime, "workers": 2,
            "cpus_per_worker": 1, "report": "false", **more,
        }
    )]  # fmt: skip


def relabel(dataset: Path, runtime: str) -> list[str]:
    """`relabel.py` of a dataset, with another threshold."""
    flags = {
        "out": labels(dataset), "align.threshold": 0.4, "runtime": runtime, "workers": 2, "cpus_per_worker": 1,
        "report": "false",
    }  # fmt: skip
    return ["relabel", str(dataset), *_flags(flags)]


def labels(dataset: Path) -> Path:
    """Where a dataset's other labels go."""
    return dataset.with_name(f"{dataset.name}-relabelled")


def train(dataset: Path, out: Path, steps: int, runtime: str) -> list[str]:
    """`train_student.py` on two ranks. Its local twin has them as two processes of this machine."""
    flags = {
        "data.dataset": dataset, "run.out": out, "run.epochs": 0, "run.steps": steps, "run.checkpoint_every": 5,
        "run.log_keys": "true", "run.log_every": 1, **_SMALL,
    }  # fmt: skip
    if runtime == "local":
        return ["train-twin", "--config=train_tiny", *_flags(flags)]
    on_ray = {"run.runtime": "ray", "run.ranks": RANKS, "run.cpus_per_rank": NODE_CPUS}
    return ["train", "--config=train_tiny", *_flags(flags | on_ray)]


def study(dataset: Path, out: Path, runtime: str) -> list[str]:
    """`scaling_study.py`: a student of half of the samples and one of all."""
    train = {"view.short_side": 0, "view.max_regions": 32, "view.pad_to": 8, "student.encoder.kind": "shapes"}
    train |= {"run.threads": 1, "run.device": "cpu", "data.workers": 0, **_SMALL}
    flags: dict[str, object] = {
        "datasets": f"{{blend: {dataset}}}", "out": out, "fractions": "[0.5, 1.0]", "seeds": "[0]", "passes": 32,
        "test.count": 8, "test.size": 96, "parallel.runtime": runtime,
        **{f"train.{key}": value for key, value in train.items()},
    }  # fmt: skip
    return ["study", *_flags(flags)]


#: Of every training here.
_SMALL: dict[str, object] = {
    "data.batch_images": 8, "run.evaluate_every": 0, "run.held_out": 0, "run.tensorboard": "false",
}  # fmt: skip


def _flags(flags: dict[str, object]) -> list[str]:
    return [f"--{key}={value}" for key, value in flags.items()]


class Submitted:
    """A job in a process of its own."""

    def __init__(self, environment: dict[str, str], words: Sequence[str]):
        self.output = ""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the job
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fake_jobs", *words],
            env=environment,
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
        )

        atexit.register(self._process.kill)  # it does not outlive a script that is told to stop

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self._process.wait(JOB_S)
        finally:
            self._process.kill()
            self._log.seek(0)
            self.output = self._log.read()
            self._log.close()

    def finish(self) -> Submitted:
        """Raises RuntimeError unless it ends well."""
        if code := self.wait():
            raise RuntimeError(f"exit code {code}:\n{self.output[-4000:]}")
        return self


def main(argv: Sequence[str]) -> int:
    """One job; several of them, one after the other, with `--` between them."""
    words = list(argv)
    while "--" in words:
        at = words.index("--")
        if code := main(words[:at]):
            return code
        words = words[at + 1 :]
    return _program(words[0])(words[1:])


def _program(name: str) -> Callable[[list[str]], int]:
    from jobs import build_pairs, relabel, scaling_study, train_student

    if name in ("build", "relabel"):
        _ask_for_gpus()
    return {
        "build": build_pairs.main,
        "relabel": relabel.main,
        "train": train_student.main,
        "train-twin": _train_twin,
        "study": scaling_study.main,
    }[name]


def _ask_for_gpus() -> None:
    from jobs.on_ray import build as on_ray

    on_ray.gpus_of = lambda settings: settings.gpus_per_worker


def _train_twin(argv: list[str]) -> int:
    from torch import multiprocessing

    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_twin_rank, (f"file://{folder}/rendezvous", argv), nprocs=RANKS)
    return 0


def _twin_rank(index: int, rendezvous: str, argv: list[str]) -> None:
    from torch import distributed

    from jobs.arguments import parse
    from training.settings import TrainSettings
    from training.train import train

    distributed.init_process_group("gloo", init_method=rendezvous, rank=index, world_size=RANKS)
    train(parse(TrainSettings, argv))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
