"""What several rooms of the trainer are tested with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.arguments import parse
from pipeline.dataset import Dataset
from tests.training.datasets import make_dataset
from training.data.batch import Batch
from training.data.loader import Loader
from training.data.streams import Streams
from training.settings import DataSettings, RunSettings, TrainSettings, ViewSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def preset() -> TrainSettings:
    """RegionCLIP's own settings, as docs/parity.md describes them."""
    config = str(ROOT / "jobs" / "configs" / "train_regionclip.yaml")
    return parse(TrainSettings, ["--config", config, "--data.dataset", "x"])


@pytest.fixture(scope="session")
def batch(tmp_path_factory) -> tuple[Batch, torch.Tensor]:
    """Four images with all their regions, and the concepts [C, D]."""
    folder = tmp_path_factory.mktemp("parity")
    dataset = make_dataset(folder / "d", shards=1, per_shard=4)
    loader = loader_of(dataset, folder, 4, ViewSettings(32, 64, flip="never", drop_unkept=False))
    ((batch,),) = list(loader.steps(1))
    return batch, Dataset.open(str(dataset)).concepts()


def loader_of(dataset: Path, folder: Path, batch_images: int, view: ViewSettings) -> Loader:
    """A loader of this process over a whole dataset."""
    data = DataSettings(str(dataset), batch_images=batch_images, workers=0)
    settings = TrainSettings(data=data, view=view, run=RunSettings(str(folder), device="cpu"))
    return Streams(settings, Dataset.open(str(dataset))).loader()
