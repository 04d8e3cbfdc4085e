"""Many small requests at once."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def map_threads(function: Callable[[A], B], items: Iterable[A], threads: int = 16) -> Iterator[B]:
    """`function(item)` for every item, in order, `threads` at a time; at most four times as many wait for the reader.

    Raises the error of the first item (in order) that failed, and starts no more.
    """
    rest = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="storage") as pool:
        waiting: collections.deque[Future[B]] = collections.deque()
        try:
            for item in itertools.islice(rest, 4 * threads):
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
                for item in itertools.islice(rest, 1):
                    waiting.append(pool.submit(function, item))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
