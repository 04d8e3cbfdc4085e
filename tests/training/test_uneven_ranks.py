"""Two gloo ranks that do not have the same: checkpoints, captions, objects. None waits for the other for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from tests.training.datasets import make_dataset
from tests.training.localizers.test_train import SETTINGS as LOCALIZER
from tests.training.students import tiny_student
from tests.training.test_empty_ranks import CONCEPTS, DIM, batch_of, gradients, same_everywhere
from tests.training.test_train import make_settings
from training.localizers.examples import Example
from training.localizers.set_task import SetTask
from training.localizers.tasks import RpnLiteTask
from training.localizers.train import Worker
from training.localizers.train import train as train_localizer
from training.losses.objective import Objective
from training.settings import LossSettings, TrainSettings
from training.train import train

KINDS = ("rpn-lite", "detr", "dab-detr", "dn-detr")


def begun(index: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/r", rank=index, world_size=2, timeout=timedelta(seconds=30)
    )


def ended(index: int, folder: str) -> None:
    Path(folder, f"done-{index}").touch()
    dist.destroy_process_group()


def run(function, folder: Path, *arguments) -> None:
    folder.mkdir(exist_ok=True)
    multiprocessing.start_processes(function, (str(folder), *arguments), nprocs=2, start_method="fork")
    assert {p.name for p in folder.glob("done-*")} == {"done-0", "done-1"}


def resume_training(index: int, folder: str, settings: TrainSettings) -> None:
    begun(index, folder)
    mine = replace(settings, run=replace(settings.run, out=f"{folder}/node-{index}"))
    with pytest.raises(ValueError, match="ranks 1 have another newest checkpoint than rank 0"):
        train(mine, tiny_student())
    ended(index, folder)


@pytest.mark.parametrize("distill", ["logits", "feature"])
def test_a_run_whose_checkpoint_one_rank_does_not_see_is_refused_on_both(tmp_path, distill):
    settings = make_settings(make_dataset(tmp_path / "d", shards=2, per_shard=4), tmp_path / "ranks/node-0")
    settings = replace(settings, loss=replace(settings.loss, distill=distill))
    train(settings, tiny_student())
    longer = replace(settings, run=replace(settings.run, steps=9))
    run(resume_training, tmp_path / "ranks", settings if distill == "feature" else longer)


def resume_localizer(index: int, folder: str) -> None:
    begun(index, folder)
    with pytest.raises(ValueError, match="ranks 1 have another checkpoint than rank 0"):
        train_localizer(
            replace(LOCALIZER, out=f"{folder}/node-{index}"), Worker(index, 2), lambda step, numbers: None
        )
    ended(index, folder)


def test_a_localizer_whose_checkpoint_one_rank_does_not_see_is_refused_on_both(tmp_path):
    out = tmp_path / "ranks/node-0"
    train_localizer(replace(LOCALIZER, steps=3, out=str(out)), Worker(), lambda step, numbers: None)
    run(resume_localizer, tmp_path / "ranks")


def without_captions(index: int, folder: str) -> None:
    begun(index, folder)
    concepts = torch.randn(CONCEPTS, DIM, generator=torch.Generator().manual_seed(1))
    for captioned in (((True, True), (False, False)), ((True, False), (False, False)), ((False, False),) * 2):
        batch = replace(batch_of(3, 2, index), has_caption=torch.tensor(captioned[index]))
        objective = Objective(concepts, 0.1, LossSettings())
        same_everywhere(gradients(tiny_student(DIM).train(), objective, batch))
    ended(index, folder)


def test_a_rank_without_any_caption_stops_nobody(tmp_path):
    run(without_captions, tmp_path / "ranks")


def example(n_boxes: int, seed: int) -> Example:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 30, (n_boxes, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 30, (n_boxes, 2))], axis=1).astype(np.float32)
    return Example(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), boxes, np.zeros((0, 4), np.float32))


def examples_of(n_boxes: int, rank: int) -> list[Example]:
    return [example(n_boxes, rank), example(n_boxes, rank + 2)]


def localizer_gradients(kind: str, examples: list[Example], wrap=lambda module: module) -> list[torch.Tensor]:
    settings = replace(LOCALIZER, kind=kind, frozen_stages=3)
    torch.manual_seed(0)
    task = RpnLiteTask(settings) if kind == "rpn-lite" else SetTask(settings)
    trained = wrap(task.network)
    for _ in range(2):  # DDP notices a parameter without a gradient when the next step begins
        task.network.zero_grad()
        losses = task.loss(trained, examples, torch.Generator().manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
    missing = [n for n, p in task.network.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    return [p.grad for p in task.network.parameters() if p.grad is not None]


def without_objects(index: int, folder: str) -> None:
    begun(index, folder)
    for kind in KINDS:
        for counts in ((3, 0), (0, 0)):
            found = localizer_gradients(kind, examples_of(counts[index], index), Worker(index, 2).wrap)
            same_everywhere(found)
            if index == 0:
                torch.save(found, f"{folder}/{kind}-{counts[0]}.pt")
    ended(index, folder)


def test_a_rank_without_any_object_stops_no_localizer_and_counts_as_part_of_the_whole_batch(tmp_path):
    run(without_objects, tmp_path / "ranks")
    for kind in ("detr", "dab-detr"):  # the others have batch statistics and noise for each rank
        for n in (3, 0):
            two = torch.load(tmp_path / f"ranks/{kind}-{n}.pt", weights_only=True)
            one = localizer_gradients(kind, [*examples_of(n, 0), *examples_of(0, 1)])
            a, b = (torch.cat([g.flatten() for g in found]) for found in (two, one))
            assert float((a - b).norm()) < 1e-3 * float(b.norm())
