"""Two gloo ranks against one process on the same global batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from pipeline.dataset import Dataset
from tests.training.datasets import make_dataset
from tests.training.students import tiny_student
from tests.training.test_train import make_settings, rows
from training.data.streams import Streams
from training.distributed import gather_with_gradient, rank, sum_over_ranks, world_size
from training.losses.objective import Objective
from training.settings import LossSettings, TrainSettings
from training.train import train
from training.trainer import Hooks

LOSSES = {
    "contrast": LossSettings(distill_weight=0.0, image_weight=0.0),
    "unique": LossSettings(distill_weight=0.0, image_weight=0.0, contrast="unique"),
    "distill": LossSettings(contrast_weight=0.0, image_weight=0.0),
    "image": LossSettings(contrast_weight=0.0, distill_weight=0.0),
    "all": LossSettings(),
    "parity": LossSettings(contrast="rank", average="rank"),
}


def losses_and_gradients(settings: TrainSettings, losses: LossSettings) -> dict[str, torch.Tensor]:
    """One backward pass over the first global batch: the mean loss over ranks and the averaged gradients."""
    model: torch.nn.Module = tiny_student()
    dataset = Dataset.open(settings.data.dataset)
    (batch,) = next(Streams(settings, dataset).loader().steps(1))
    objective = Objective(dataset.concepts(), 0.05, losses)
    parallel = DistributedDataParallel(model) if world_size() > 1 else model
    total = objective(parallel.train()(batch), batch)["total"]
    total.backward()
    mean = sum_over_ranks(total) / world_size()
    return {"loss": mean, **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}


def gather_gradient() -> dict[str, torch.Tensor]:
    """d/dx of a loss that every rank computes alike from the gathered rows (parity 31)."""
    x = torch.arange(3.0).reshape(1, 3).add(10 * rank()).requires_grad_()
    gathered = gather_with_gradient(x)
    (gathered.prod(dim=0).sum() * (rank() + 1)).backward()
    assert x.grad is not None
    return {"rows": gathered.detach(), "gradient": x.grad}


def run_rank(index: int, folder: str, settings: TrainSettings) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=index, world_size=2)
    found = {name: losses_and_gradients(settings, losses) for name, losses in LOSSES.items()}
    found["gather"] = gather_gradient()
    torch.save(found, f"{folder}/rank-{index}.pt")
    train(settings, tiny_student())
    stopped = replace(settings, run=replace(settings.run, out=f"{folder}/stopped"))
    summary = train(
        stopped, tiny_student(), Hooks(stop=lambda: rank() == 1)
    )  # only one rank hears the signal
    assert summary["step"] == 1
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    dataset = make_dataset(folder / "d", shards=2, per_shard=6)
    settings = make_settings(dataset, folder / "two", steps=4)
    multiprocessing.start_processes(run_rank, (str(folder), settings), nprocs=2, start_method="fork")
    return folder


@pytest.mark.parity(29, 30, 31)
@pytest.mark.parametrize("name", [n for n in LOSSES if n != "parity"])
def test_two_ranks_equal_one_on_the_same_global_batch(folder, name):
    two = torch.load(folder / "rank-0.pt", weights_only=True)[name]
    one = losses_and_gradients(make_settings(folder / "d", folder / "one"), LOSSES[name])
    assert one.keys() == two.keys()
    for key, value in one.items():
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(two[key], value.detach(), atol=1e-5 * scale, rtol=1e-5, msg=key)
    assert max(float(v.abs().max()) for k, v in one.items() if k != "loss") > 1e-3


@pytest.mark.parity(29)
def test_rank_local_candidates_are_another_loss(folder):
    two, both = torch.load(folder / "rank-0.pt", weights_only=True), LOSSES["all"]
    one = losses_and_gradients(make_settings(folder / "d", folder / "one"), both)
    assert abs(float(two["parity"]["loss"] - one["loss"])) > 1e-3


@pytest.mark.parity(31)
def test_gathered_rows_get_the_gradients_of_all_ranks(folder):
    for index in range(2):
        found = torch.load(folder / f"rank-{index}.pt", weights_only=True)["gather"]
        assert found["rows"].tolist() == [[0, 1, 2], [10, 11, 12]]
        other = found["rows"][1 - index]
        torch.testing.assert_close(
            found["gradient"][0], 3 * other
        )  # ranks 0 and 1 weigh their loss by 1 and 2


def test_a_run_on_two_ranks_is_the_run_on_one(folder):
    train(make_settings(folder / "d", folder / "one", steps=4), tiny_student())
    one, two = (rows(folder / n / "metrics.jsonl") for n in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "contrast", "distill", "image"):
            assert b[name] == pytest.approx(a[name], rel=1e-4)
