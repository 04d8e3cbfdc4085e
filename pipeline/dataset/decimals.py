"""Rounded numbers as JSON has them, from tables: to find the shortest text of a float takes longer than to look it up."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np

to_json = json.JSONEncoder(ensure_ascii=False).encode


def decimals(values: np.ndarray, digits: int) -> list[str]:
    """The JSON text of `round(float(v), digits)` of each of values [n]; fast where all are in [0, 1].

    float32 times 10^5 is exact in 64 bits, so only the last step rounds, as Python's `round` does.
    """
    scale = 10.0**digits
    whole = np.rint(values.astype(np.float64) * scale)
    if not np.signbit(whole).any() and (whole <= scale).all():
        table = _table(digits)
        return [table[number] for number in whole.astype(np.int64).tolist()]
    return to_json((whole / scale).tolist())[1:-1].split(", ")


@lru_cache(maxsize=4)
def _table(digits: int) -> list[str]:
    """The text of every number from 0 to 1 with so many digits: 6 MB for 5 of them."""
    return [repr(number / 10**digits) for number in range(10**digits + 1)]
