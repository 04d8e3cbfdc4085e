"""What benchmarks of models share: seconds of a call on a device, boxes and rows that are the same each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def timed(work: Callable[[], Any], device: torch.device | None = None) -> float:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def cosine(a: list[torch.Tensor], b: list[torch.Tensor], centre: torch.Tensor) -> float:
    """The worst cosine of two rows of the same region, measured from a centre."""
    pairs = zip(a, b, strict=True)
    return min(torch.cosine_similarity(x - centre, y - centre).min().item() for x, y in pairs)


def grid(n: int) -> np.ndarray:
    """n boxes of many sizes: float32 [n, 4], the same each time."""
    random = np.random.default_rng(0)
    low = random.random((n, 2)) * 0.7
    return np.concatenate([low, low + 0.05 + random.random((n, 2)) * 0.25], axis=1).astype(np.float32)


def unit_rows(n: int, dim: int) -> torch.Tensor:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(rows, dim=1)
