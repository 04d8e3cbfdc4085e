"""What differs between one process and many: gathers, sums and means over ranks that gradients flow through.

Everything works without a process group (one rank). The conventions fit DistributedDataParallel, which
*averages* the gradients of the ranks: a loss that is computed on the gathered global batch is the same number
on every rank, and a local mean is weighted by `mean_over_ranks` so that the average over ranks is the mean
over the global batch.
"""

from __future__ import annotations

import torch
from torch import distributed as dist


def rank() -> int:
    """This process's index among the ranks; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """Concatenates equal-sized tensors of all ranks; backward sums the ranks' gradients for each rank's own
    part.

    Not torch's `all_gather` of `torch.distributed.nn`: its backward falls back to point-to-point sends on
    gloo.
    """

    @staticmethod
    def forward(ctx, local: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        ctx.n_rows = len(local)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.n_rows
        return total[start : start + ctx.n_rows]


def gather_with_gradient(local: torch.Tensor) -> torch.Tensor:
    """[N, ...] of each rank (equal N) -> [world * N, ...] in rank order, differentiable (parity 30-31)."""
    return local if world_size() == 1 else _Gather.apply(local)


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum of an equal-shaped tensor over all ranks, without gradient."""
    total = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def mean_count(n: int, device: torch.device) -> float:
    """How many there are on all ranks, one at least, over the number of ranks: what a rank's sum of losses is divided by,
    so that DDP's average of the gradients is that of the whole batch (as DETR does with its boxes, Carion et al., ECCV
    2020)."""
    return max(1.0, float(sum_over_ranks(torch.tensor(float(n), device=device)))) / world_size()


def max_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum of an equal-shaped tensor over all ranks, without gradient."""
    total = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total, op=dist.ReduceOp.MAX)
    return total


def require_same_over_ranks(digest: bytes, what: str, device: torch.device) -> None:
    """Raises ValueError on every rank unless all of them have the same digest (equally long everywhere)."""
    if world_size() == 1:
        return
    mine = torch.tensor(list(digest), dtype=torch.uint8, device=device)
    every = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(every, mine)
    other = [str(r) for r, theirs in enumerate(every) if not torch.equal(theirs, every[0])]
    if other:
        raise ValueError(
            f"ranks {', '.join(other)} have another {what} than rank 0: do all see the same files?"
        )


def mean_over_ranks(per_row: torch.Tensor, scope: str) -> torch.Tensor:
    """The mean of a loss over rows, such that DDP's average of it is the wanted mean. Scalar with gradient.

    scope `rank`: the plain mean of this rank's rows (parity: a rank with few rows gives them more weight).
    scope `global`: sum of this rank's rows * world / rows on all ranks, whose average over ranks is the
    global mean. No rows at all give 0, with a gradient of 0.
    """
    if scope == "rank" or world_size() == 1:
        return per_row.sum() / max(1, len(per_row))
    n_rows = sum_over_ranks(torch.tensor(float(len(per_row)), device=per_row.device)).clamp(min=1)
    return per_row.sum() * world_size() / n_rows
