"""Several datasets with weights as one stream: an index map from positions to (dataset, position in its own stream).

The stream is cut into blocks of 1,000 positions. In every block each dataset has its share of positions, and they are
permuted together; a dataset's own positions follow each other, so each of its epochs has every sample once, however
often the others come round. Like `Order`, a pure function of seed and position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from pipeline.dataset import Dataset, ShardRow
from training.data.order import Order
from training.settings import DataSettings

#: Positions in which every dataset has its share.
BLOCK = 1000
_MIX = 4
#: Text embeddings of one name that differ by more are of different teachers or prompts.
TOLERANCE = 1e-2


def shares(weights: Sequence[float]) -> np.ndarray:
    """How many positions of a block each dataset has: int64, the sum is `BLOCK`, rounded by largest remainders.

    Raises ValueError for a weight so small that its dataset would have none.
    """
    exact = np.asarray(weights, np.float64) / np.sum(weights) * BLOCK
    counts = np.floor(exact).astype(np.int64)
    rest = BLOCK - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:rest]] += 1
    if (counts == 0).any():
        raise ValueError(
            f"data.mix: weight {weights[int(np.argmin(counts))]} is less than 1 in {BLOCK} of all"
        )
    return counts


class MixedOrder:
    """`Order` over several: shards are numbered through, in the order of the datasets."""

    def __init__(self, orders: Sequence[Order], weights: Sequence[float], seed: int):
        self._orders, self._seed = list(orders), seed
        self._shares = shares(weights)
        self._starts = np.cumsum([0, *(len(order.counts) for order in orders)]).tolist()
        self.counts = np.concatenate([order.counts for order in orders])
        self.n_samples = int(self.counts.sum())
        self._remember()

    def _remember(self) -> None:
        self._block = lru_cache(maxsize=4)(self._permute_block)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_block"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._remember()

    def _permute_block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The dataset of each position of a block, and how many of its positions lie before in the block."""
        owners = np.repeat(np.arange(len(self._shares)), self._shares)
        owners = np.random.default_rng([self._seed, _MIX, block]).permutation(owners)
        before = np.zeros(BLOCK, np.int64)
        for dataset in range(len(self._shares)):
            mine = owners == dataset
            before[mine] = np.arange(int(mine.sum()))
        return owners, before

    def source(self, position: int) -> tuple[int, int]:
        """Position -> (dataset, position in its own stream)."""
        block, within = divmod(position, BLOCK)
        owners, before = self._block(block)
        dataset = int(owners[within])
        return dataset, block * int(self._shares[dataset]) + int(before[within])

    def locate(self, position: int) -> tuple[int, int]:
        """Position in the stream -> (shard, ordinal within the shard's samples)."""
        dataset, own = self.source(position)
        shard, ordinal = self._orders[dataset].locate(own)
        return self._starts[dataset] + shard, ordinal

    def replacements(self, position: int) -> Iterator[tuple[int, int]]:
        """Stand-ins for a damaged sample, of its own dataset."""
        dataset, own = self.source(position)
        for shard, ordinal in self._orders[dataset].replacements(own):
            yield self._starts[dataset] + shard, ordinal

    def window_shards(self, position: int) -> list[int]:
        """The shards that are open at this position, of all datasets."""
        return [
            start + shard
            for start, order, own in zip(self._starts, self._orders, self._reached(position), strict=False)
            for shard in order.window_shards(own)
        ]

    def next_window(self, position: int) -> int:
        """The first position at which a dataset's window is another one."""
        reached = enumerate(self._reached(position))
        return min(self._position_of(i, self._orders[i].next_window(own)) for i, own in reached)

    def _reached(self, position: int) -> list[int]:
        """The position in its own stream that each dataset comes to next."""
        block, within = divmod(position, BLOCK)
        owners = self._block(block)[0][:within]
        return [block * int(n) + int((owners == i).sum()) for i, n in enumerate(self._shares)]

    def _position_of(self, dataset: int, own: int) -> int:
        block, rest = divmod(own, int(self._shares[dataset]))
        return block * BLOCK + int(np.flatnonzero(self._block(block)[0] == dataset)[rest])


@dataclass(frozen=True)
class Mixture:
    """Several datasets as one. Where their pools differ, concepts are joined by name: the first dataset's come first."""

    datasets: tuple[Dataset, ...]
    weights: tuple[float, ...]

    @property
    def shards(self) -> tuple[ShardRow, ...]:
        return tuple(shard for dataset in self.datasets for shard in dataset.shards)

    @property
    def n_samples(self) -> int:
        return sum(dataset.n_samples for dataset in self.datasets)

    @property
    def fingerprint(self) -> str:
        """Of datasets and shares: another mixture is another stream."""
        said = [[d.fingerprint for d in self.datasets], shares(self.weights).tolist()]
        return "mix-" + hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    @property
    def pool_hash(self) -> str:
        hashes = [dataset.pool_hash for dataset in self.datasets]
        same = len(set(hashes)) == 1
        return hashes[0] if same else "mix-" + hashlib.sha256(repr(hashes).encode()).hexdigest()[:16]

    @property
    def tau(self) -> float:
        """Their temperature. Raises ValueError where they have several."""
        found = sorted({dataset.tau for dataset in self.datasets})
        if len(found) > 1:
            raise ValueError(
                f"data.mix: the datasets have align.tau {found}; set loss.tau, or relabel them alike"
            )
        return found[0]

    @cached_property
    def _names(self) -> list[list[str]]:
        return [dataset.pool.names for dataset in self.datasets]

    @cached_property
    def _merged(self) -> dict[str, int]:
        """Name -> id in the joint pool."""
        return {name: i for i, name in enumerate(dict.fromkeys(n for names in self._names for n in names))}

    def concept_ids(self) -> list[np.ndarray | None]:
        """For each shard: its dataset's concept ids -> those of the joint pool, int64 [C]; None where they are the same."""
        if len({dataset.pool_hash for dataset in self.datasets}) == 1:
            return [None] * len(self.shards)
        maps = [np.array([self._merged[name] for name in names], np.int64) for names in self._names]
        return [ids for ids, dataset in zip(maps, self.datasets, strict=True) for _ in dataset.shards]

    def concepts(self) -> torch.Tensor:
        """The text embeddings of the joint pool: float32 [C, D]. Raises ValueError where datasets disagree about a name."""
        found = [dataset.concepts() for dataset in self.datasets]
        widths = sorted({f.shape[1] for f in found})
        if len(widths) > 1:
            raise ValueError(f"data.mix: embeddings of {widths} numbers are of different teachers")
        if len({dataset.pool_hash for dataset in self.datasets}) == 1:
            owners = [torch.arange(len(found[0]))] * len(found)
        else:
            owners = [torch.tensor([self._merged[n] for n in names]) for names in self._names]
        joint = found[0].new_full((1 + max(int(o.max()) for o in owners), widths[0]), float("nan"))
        for ids, embeddings, dataset in zip(owners, found, self.datasets, strict=True):
            there = joint[ids]
            known = ~there[:, 0].isnan()
            if known.any() and float((there[known] - embeddings[known]).abs().max()) > TOLERANCE:
                raise ValueError(
                    f"data.mix: {dataset.url} has other text embeddings: of another teacher or prompts"
                )
            joint[ids[~known]] = embeddings[~known]
        return joint

    def order(self, counts: Sequence[int], seed: int, window_shards: int) -> MixedOrder:
        """The stream over the samples of each shard that train. Raises ValueError where a dataset has none."""
        orders, start = [], 0
        for number, dataset in enumerate(self.datasets):
            own = counts[start : start + len(dataset.shards)]
            start += len(dataset.shards)
            if not sum(own):
                raise ValueError(f"data.mix: no sample of {dataset.url} is left to train on")
            orders.append(Order(own, seed + number, window_shards))
        return MixedOrder(orders, self.weights, seed)


def open_data(data: DataSettings) -> Dataset | Mixture:
    """The dataset of `data.dataset`, or the datasets of `data.mix`. Raises as `Dataset.open` does."""
    if not data.mix:
        if not data.dataset:
            raise ValueError("data.dataset: is empty; give the folder of a built dataset")
        return Dataset.open(data.dataset, data.images)
    return Mixture(tuple(Dataset.open(m.path) for m in data.mix), tuple(m.weight for m in data.mix))
