"""A dataset's training and held-out samples, as loaders of this rank."""

from __future__ import annotations

import math
from dataclasses import replace

import storage
from pipeline.dataset import Dataset
from pipeline.dataset.random_access import Shards
from training.data.loader import Loader
from training.data.mixture import Mixture
from training.data.split import Split, split
from training.devices import device_of
from training.distributed import rank, world_size
from training.settings import TrainSettings


class Streams:
    """Makes the loaders of a run. Which samples belong to which is found out once, from the shards' indices alone.

    Raises ValueError where nothing is left to train on, or nothing held out to evaluate on.
    """

    def __init__(self, settings: TrainSettings, dataset: Dataset | Mixture):
        self._settings, self._dataset = settings, dataset
        data, run = settings.data, settings.run
        folder = storage.join(storage.local_folder(run.out, "run.out"), "buffer")
        if data.buffer_dir:
            folder = storage.local_folder(data.buffer_dir, "data.buffer_dir")
        self._shards = Shards(
            dataset.shards,
            folder,
            int(data.buffer_gib * 2**30),
            max_open=data.window_shards * max(1, len(data.mix)) + 2,
        )
        self._split: Split | None = None
        self.n_samples = dataset.n_samples
        if data.subset < 1 or run.held_out > 0:
            keys = (index.keys for index in self._shards.indices())
            self._split = split(keys, data.subset, run.held_out)
            self.n_samples = sum(map(len, self._split.train))
            if run.evaluate_every and not sum(map(len, self._split.held)):
                raise ValueError(
                    f"run.held_out: {run.held_out} of {dataset.n_samples} samples holds out none; raise it, or set "
                    "run.evaluate_every to 0"
                )
        if not self.n_samples:
            raise ValueError(
                f"data.subset: of {dataset.n_samples} samples none is left to train on (subset {data.subset}, "
                f"run.held_out {run.held_out})"
            )

    @property
    def n_steps(self) -> int:
        """The steps in which `run.epochs` passes fit."""
        settings = self._settings
        return math.ceil(settings.run.epochs * self.n_samples / settings.data.batch_images)

    def loader(self, held: bool = False) -> Loader:
        """This rank's loader; `held`: of the held-out samples, unmirrored."""
        settings = self._settings
        selected = None if self._split is None else self._split.held if held else self._split.train
        return Loader(
            self._dataset,
            self._shards,
            settings.data,
            replace(settings.view, flip="never") if held else settings.view,
            selected=selected,
            mixed=not held,
            seed=settings.run.seed,
            accumulate=settings.optimizer.accumulate,
            rank=rank(),
            world=world_size(),
            pin_memory=device_of(settings).type == "cuda",
            embeddings=settings.loss.distill != "logits",
        )

    def close(self) -> None:
        """Closes open shards."""
        self._shards.close()
