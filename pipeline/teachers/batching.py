"""How a teacher spends its passes: images of one size together, out-of-memory batches halved, resizing ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")


def groups_by_size(sizes: dict[int, tuple[int, int]], largest: int) -> list[list[int]]:
    """The keys of images of equal size, at most `largest` a group, in the order of their first image."""
    groups: list[list[int]] = []
    open_group: dict[tuple[int, int], list[int]] = {}
    for index, size in sizes.items():
        group = open_group.get(size)
        if group is None or len(group) == largest:
            group = open_group[size] = []
            groups.append(group)
        group.append(index)
    return groups


def halving(run: Callable[[list[T]], list[U]], items: list[T]) -> list[U]:
    """run(items); where the device runs out of memory, the two halves one after the other.

    Raises torch.OutOfMemoryError only if a single item does not fit.
    """
    try:
        return run(items)
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
    # Outside of the except block: the failed pass's tensors, held by its traceback, are free by now.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return halving(run, items[:middle]) + halving(run, items[middle:])


def ahead(make: Callable[[T], U], items: Sequence[T], threads: int) -> Iterator[U]:
    """make(item) for each item, in order, computed in `threads` threads while the consumer is busy.

    At most `threads` + 1 results wait. `threads` 0 computes each when it is asked for.
    """
    if threads == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(make, item) for item in items[: threads + 1]]
        for following in range(threads + 1, len(items) + threads + 1):
            if not waiting:
                return
            done = waiting.pop(0).result()
            if following < len(items):
                waiting.append(pool.submit(make, items[following]))
            yield done
