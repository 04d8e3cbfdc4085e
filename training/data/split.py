"""Which samples train and which are held out: functions of their keys alone, so that everyone agrees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """The ordinals of each shard, int64 arrays, that train and that are held out."""

    train: list[np.ndarray]
    held: list[np.ndarray]


def split(keys: Iterable[np.ndarray], subset: float, held_out: float) -> Split:
    """Splits shards by the keys of their samples, bytes [n] each.

    A sample is held out iff its number (`key_share`) for that is below `held_out`. The others train iff theirs is below
    `subset`: a smaller subset lies inside a larger one, and samples that are held out are never trained on.
    """
    train, held = [], []
    for of_shard in keys:
        out = _below(of_shard, "held out", held_out)
        train.append(np.flatnonzero(_below(of_shard, "subset", subset) & ~out))
        held.append(np.flatnonzero(out))
    return Split(train, held)


def _below(keys: np.ndarray, purpose: str, share: float) -> np.ndarray:
    if share in (0, 1):
        return np.full(len(keys), share == 1)
    return np.fromiter((key_share(k, purpose) < share for k in keys.tolist()), bool, len(keys))


def key_share(key: bytes, purpose: str) -> float:
    """A number in [0, 1) from a sample's key."""
    return int.from_bytes(hashlib.sha256(purpose.encode() + b"\0" + key).digest()[:8], "big") / 2**64
