"""The torch device of a rank."""

from __future__ import annotations

import torch
from torch import distributed as dist

from training.distributed import world_size
from training.settings import TrainSettings


def device_of(settings: TrainSettings) -> torch.device:
    """The device of this rank: `auto` is a GPU where there is one, and of several GPUs each rank of a machine has its own.

    Raises ValueError for `cuda` on a machine without a GPU.
    """
    name = settings.run.device
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("run.device: cuda asked for, and this machine has no usable GPU")
    return torch.device("cuda", local_gpu())


def local_gpu() -> int:
    """This rank's GPU among those that its process sees: its rank on the machine, as the launcher tells it to torch."""
    current = torch.cuda.current_device()
    if world_size() == 1:
        return current
    return dist.get_node_local_rank(fallback_rank=current) % torch.cuda.device_count()
