"""One student from several: the mean of their weights (Wortsman et al., Model soups, ICML 2022, equation of section 2.1).

Students that started at one teacher and differ by seed or by round lie close enough together that the mean of their
weights is a student too, as fast as one of them and often better than each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import storage
from pipeline.networks import weights_files

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def average(paths: Sequence[str]) -> dict[str, torch.Tensor]:
    """The mean of weights files (paths or URLs) of one network: name -> tensor, of the first one's dtypes.

    Sums are in float64, so the order of the files makes no difference but for the last bit. Counters and other integers
    are the first one's. Raises FileNotFoundError; ValueError for fewer than two different files, one that is no weights
    file, one of another network, and a value, or a mean in the first one's dtype, that is no number.
    """
    if len(set(paths)) < 2 or len(set(paths)) < len(paths):
        raise ValueError("an average takes two different students or more")
    first = _read(paths[0])
    sums = {name: value.double() for name, value in first.items() if value.is_floating_point()}
    for path in paths[1:]:
        other = _read(path)
        wrong = sorted(first.keys() ^ other.keys())
        wrong += [name for name in first if name in other and not _fits(first[name], other[name])]
        if wrong:
            raise ValueError(
                f"{storage.redacted(path)}: not weights of the network of {storage.redacted(paths[0])} ({wrong[:3]})"
            )
        for name in sums:
            sums[name] += other[name].double()
    means = {
        name: (sums[name] / len(paths)).to(value.dtype) if name in sums else value
        for name, value in first.items()
    }
    _check(means, f"the mean as {storage.redacted(paths[0])} has its types")
    return means


def _fits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()


def _read(path: str) -> dict[str, torch.Tensor]:
    name = storage.redacted(path)
    tensors, _ = weights_files.parse(storage.read_bytes(path), name)
    _check(tensors, name)
    return {key: value.contiguous() for key, value in tensors.items()}


def _check(tensors: dict[str, torch.Tensor], name: str) -> None:
    """Raises ValueError unless there are weights, of types that have a mean, and all of them are numbers."""
    for key, value in tensors.items():
        if value.is_complex() or (value.is_floating_point() and value.dtype not in _FLOATS):
            raise ValueError(f"{name}: {key} is {value.dtype}, which has no mean here")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}: holds values that are no numbers ({key})")
    if not any(value.is_floating_point() for value in tensors.values()):
        raise ValueError(f"{name}: holds no weights")
