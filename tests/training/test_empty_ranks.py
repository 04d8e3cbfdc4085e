"""Two gloo ranks, one of which has no region: every loss comes to an end, and every parameter has its gradient."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from pipeline.networks.region_geometry import average_under
from pipeline.teachers.region_encoder import RegionEncoder
from tests.training.students import tiny_student
from training.data.batch import Batch
from training.distributed import require_same_over_ranks
from training.losses.objective import Objective
from training.refo import AwareTeacher, FeatureObjective, TeacherObjective, TeacherStage
from training.settings import LossSettings
from training.student import Student

DIM, CONCEPTS, IMAGES = 8, 11, 2
#: distill, contrast, average, image weight, and regions of (rank 0, rank 1), of which so many are kept.
CASES = [
    (*case, regions, kept)
    for case in itertools.product(
        ("logits", "global-local"), ("rank", "global", "unique"), ("global", "rank"), (0.0, 1.0)
    )
    for regions, kept in (((3, 0), (2, 0)), ((3, 2), (3, 0)), ((0, 0), (0, 0)))
]


class PooledEncoder(RegionEncoder):
    """A region encoder whose head sees regions alone, as layer4 and the attention pool do."""

    dim, stride, multiple_of = DIM, 2, 2

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.Linear(4, DIM)

    def features(self, images, sizes):
        return self.stem(images)

    def pool(self, features, rois):
        return self.head(average_under(features, rois, self.stride))


def batch_of(n_regions: int, n_kept: int, seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(n_regions, 2, generator=g) * 0.4
    return Batch(
        pixels=torch.randint(0, 255, (IMAGES * 16 * 16 * 3,), dtype=torch.uint8, generator=g),
        sizes=torch.full((IMAGES, 2), 16),
        mirrored=torch.zeros(IMAGES, dtype=torch.bool),
        canvas=(16, 16),
        boxes=torch.cat([corners, corners + 0.5], dim=1),
        image_index=torch.arange(n_regions) * IMAGES // max(1, n_regions),
        topk_ids=torch.stack([torch.randperm(CONCEPTS, generator=g)[:4] for _ in range(n_regions)])
        if n_regions
        else torch.zeros(0, 4, dtype=torch.int64),
        topk_probs=torch.full((n_regions, 4), 0.2),
        residual=torch.full((n_regions,), 0.2),
        kept=torch.arange(n_regions) < n_kept,
        embeddings=torch.randn(n_regions, DIM, generator=g),
        captions=torch.randn(IMAGES, DIM, generator=g),
        has_caption=torch.tensor([True, seed == 0]),
        keys=["a", "b"],
        skipped=[],
    )


def student_of(kind: str, embed_images: bool) -> Student:
    if kind == "tiny":
        return tiny_student(DIM, embed_images=embed_images)
    torch.manual_seed(0)
    return Student(PooledEncoder(), (0.5,) * 3, (0.25,) * 3, embed_images=embed_images)


def gradients(model: torch.nn.Module, objective, batch: Batch) -> list[torch.Tensor]:
    """The gradients of the second of two steps: DDP notices a parameter without one when the next step begins."""
    parallel = DistributedDataParallel(model, broadcast_buffers=False)
    for _ in range(2):
        model.zero_grad()
        losses = objective(parallel(batch), batch)
        losses["total"].backward()
        assert all(torch.isfinite(v).all() for v in losses.values())
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    return [p.grad for p in model.parameters() if p.grad is not None]


def run_rank(index: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/r", rank=index, world_size=2, timeout=timedelta(seconds=30)
    )
    concepts = torch.randn(CONCEPTS, DIM, generator=torch.Generator().manual_seed(1))
    for distill, contrast, average, image_weight, regions, kept in CASES:
        settings = LossSettings(
            distill=distill, contrast=contrast, average=average, image_weight=image_weight
        )
        objective = Objective(concepts, 0.1, settings)
        for kind in ("tiny", "pooled"):
            student = student_of(kind, embed_images=image_weight > 0).train()
            found = gradients(student, objective, batch_of(regions[index], kept[index], index))
            same_everywhere(found)
    for average, regions in itertools.product(("global", "rank"), ((3, 0), (0, 0))):
        task = Objective(concepts, 0.1, LossSettings(average=average, image_weight=0.0, distill_weight=0.0))
        batch = batch_of(regions[index], regions[index], index)
        frozen = student_of("pooled", embed_images=False).eval()
        torch.manual_seed(0)
        stage = TeacherStage(AwareTeacher(DIM, 16), frozen)
        same_everywhere(gradients(stage, TeacherObjective(task, 1.0), batch))
        feature = FeatureObjective(AwareTeacher(DIM, 16).requires_grad_(False), average)
        same_everywhere(gradients(student_of("pooled", embed_images=False).train(), feature, batch))
    order_check(index)
    (open(f"{folder}/done-{index}", "w")).close()
    dist.destroy_process_group()


def same_everywhere(gradients: list[torch.Tensor]) -> None:
    mine = torch.cat([g.flatten() for g in gradients])
    every = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(every, mine)
    assert torch.equal(*every)


def order_check(index: int) -> None:
    require_same_over_ranks(b"the same", "order", torch.device("cpu"))
    with pytest.raises(ValueError, match="ranks 1 have another order than rank 0"):
        require_same_over_ranks(bytes([index]) * 32, "order", torch.device("cpu"))


def test_no_loss_hangs_or_fails_where_a_rank_has_nothing(tmp_path):
    assert len(CASES) == 72
    assert replace(LossSettings(), contrast="rank")
    multiprocessing.start_processes(run_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    assert {p.name for p in tmp_path.glob("done-*")} == {"done-0", "done-1"}
