"""One student from several: the mean of their weights (Wortsman et al., Model soups, ICML 2022, equation of section 2.1).

Students that started at one teacher and differ by seed or by round lie close enough together that the mean of their
weights is a student too, as fast as one of them and often better than each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import storage
from pipeline.networks import weights_files


def average(paths: Sequence[str]) -> dict[str, torch.Tensor]:
    """The mean of weights files (paths or URLs) of one network: name -> tensor, of the first one's dtypes.

    Sums are in float64, so the order of the files makes no difference but for the last bit. Counters and other integers
    are the first one's. Raises FileNotFoundError; ValueError for fewer than two files, one that is no weights file, one
    of another network, and one that holds a value that is no number.
    """
    if len(paths) < 2:
        raise ValueError("an average takes two students or more")
    first = _read(paths[0])
    sums = {name: value.double() for name, value in first.items() if value.is_floating_point()}
    for path in paths[1:]:
        other = _read(path)
        wrong = sorted(first.keys() ^ other.keys())
        wrong += [name for name in first if name in other and other[name].shape != first[name].shape]
        if wrong:
            raise ValueError(
                f"{storage.redacted(path)}: not weights of the network of {storage.redacted(paths[0])} ({wrong[:3]})"
            )
        for name in sums:
            sums[name] += other[name].double()
    return {
        name: (sums[name] / len(paths)).to(value.dtype) if name in sums else value
        for name, value in first.items()
    }


def _read(path: str) -> dict[str, torch.Tensor]:
    name = storage.redacted(path)
    tensors, _ = weights_files.parse(storage.read_bytes(path), name)
    bad = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"{name}: holds values that are no numbers ({bad[0]})")
    return tensors
