"""What is wrong with a dataset whose own plan or manifest names files that are missing or have changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import storage


class DamagedDataset(ValueError):
    """A file that the plan or the manifest names is missing, or is not the one that was committed.

    advice: what mends it. The dataset is mended by the command that made it, not by the one that reads it.
    """

    def __init__(self, what: str, advice: str = ""):
        super().__init__(what)
        self.advice = advice

    def __reduce__(self) -> tuple[type[DamagedDataset], tuple[str, str]]:
        return type(self), (str(self), self.advice)


def by_repair(dataset: str) -> str:
    """What mends a shard, an index or a manifest row of the dataset at this URL."""
    return (
        f"`regionpairs verify {dataset} --repair` and the command that made that dataset mend it; after them the "
        "same command goes on"
    )


def by_its_maker(dataset: str) -> str:
    """What mends the plan of the dataset at this URL."""
    return f"the command that made {dataset} mends it; after it the same command goes on"


@contextlib.contextmanager
def reading(url: str, advice: str) -> Iterator[None]:
    """While a file of a dataset is read and parsed: that it is gone, or is no such file, is a DamagedDataset."""
    try:
        yield
    except DamagedDataset:
        raise
    except FileNotFoundError as e:
        raise DamagedDataset(f"{storage.redacted(url)} is gone", advice) from e
    except IsADirectoryError as e:  # nothing of ours makes one; it may hold what somebody wants to keep
        what = f"{storage.redacted(e.filename or url)} is a folder where a file belongs"
        raise DamagedDataset(what, f"move that folder away; then {advice}") from e
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, NotImplementedError) as e:
        why = " ".join(str(e).split())[:200]
        raise DamagedDataset(f"{storage.redacted(url)} is damaged: {type(e).__name__}: {why}", advice) from e
