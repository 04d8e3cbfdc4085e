"""The loader: a manifest in, equal micro-batches out, resumable at any sample.

A map-style dataset over stream positions under torch's own DataLoader. `torchdata`'s StatefulDataLoader was
weighed: its state belongs to one number of ranks and of workers, and it replays or snapshots what we can
compute. Here the whole state is one integer, the position in the stream (training/order.py), which any number
of ranks, loader processes and images a batch continues exactly.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from pipeline.images import BadSample
from training import pixels
from training.batch import Batch, collate
from training.manifest import Manifest
from training.order import Order, batches, key_share, view_rng
from training.samples import Sample, draw_view, parse
from training.settings import DataSettings, ViewSettings
from training.shards import Shards


class Stream(Dataset):
    """Position in the stream -> a view of its sample, and whom it stands in for if that one is corrupt."""

    def __init__(
        self,
        shards: Shards,
        selected: list[np.ndarray] | None,
        order: Order,
        view: ViewSettings,
        seed: int,
        embeddings: bool,
    ):
        self._shards = shards
        self._selected = selected
        self._order = order
        self._view = view
        self._seed = seed
        self._embeddings = embeddings
        self.cache: dict[tuple[int, int], Sample] | None = None

    def __getitem__(self, position: int):
        skipped: list[tuple[str, str]] = []
        place = self._order.locate(position)
        candidates = self._order.replacements(position)
        while True:
            try:
                sample = self._sample(*place)
                return draw_view(sample, self._view, view_rng(self._seed, position)), skipped
            except BadSample as e:
                skipped.append((self._name(*place), e.reason))
            found = next(candidates, None)
            if found is None:
                raise RuntimeError(
                    f"{len(skipped)} corrupt samples in a row, last {skipped[-1]}: is the dataset gone?"
                )
            place = found

    def _sample(self, shard: int, ordinal: int) -> Sample:
        if self._cache_hit(shard, ordinal) is not None:
            return self.cache[shard, ordinal]  # type: ignore[index]
        stored = ordinal if self._selected is None else int(self._selected[shard][ordinal])
        sample = parse(*self._shards.read(shard, stored), self._view, self._embeddings)
        if self.cache is not None:
            sample = replace(sample, image=pixels.resize(sample.image, *sample.size))
            self.cache[shard, ordinal] = sample
        return sample

    def _cache_hit(self, shard: int, ordinal: int) -> Sample | None:
        return None if self.cache is None else self.cache.get((shard, ordinal))

    def _name(self, shard: int, ordinal: int) -> str:
        stored = ordinal if self._selected is None else int(self._selected[shard][ordinal])
        try:
            return self._shards.index(shard).keys[stored].decode("ascii")
        except BadSample:
            return f"{self._shards.rows[shard].name}#{stored}"


class _Collate:
    def __init__(self, pad_to: int):
        self._pad_to = pad_to

    def __call__(self, items):
        return collate([v for v, _ in items], [s for _, skipped in items for s in skipped], self._pad_to)


class Loader:
    """Equal micro-batches of one rank, from a manifest.

    held_out: the share of samples, by key hash, that training leaves out; with `held=True` this loader reads
    those instead. n_samples is the size of an epoch. `skipped` counts corrupt samples by reason,
    `skipped_keys` names them; too many of them (data.bad_budget) raise RuntimeError.
    """

    def __init__(
        self,
        manifest: Manifest,
        data: DataSettings,
        view: ViewSettings,
        *,
        seed: int = 0,
        folder: str,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        held_out: float = 0.0,
        held: bool = False,
        pin_memory: bool = False,
        embeddings: bool = True,
    ):
        self._data, self._seed = data, seed
        self._accumulate, self._rank, self._world = accumulate, rank, world
        self._view, self._pin_memory = view, pin_memory
        self.manifest = manifest
        self.skipped: Counter[str] = Counter()
        self.skipped_keys: dict[str, str] = {}
        self.position = 0
        self._shards = Shards(
            manifest.shards, data.buffer_dir or folder, int(data.buffer_gib * 2**30), data.window_shards + 2
        )
        selected = self._select(data.subset, held_out, held)
        counts = [s.n_samples for s in manifest.shards] if selected is None else [len(s) for s in selected]
        self._order = Order(counts, seed, data.window_shards)
        self.n_samples = self._order.n_samples
        self._stream = Stream(self._shards, selected, self._order, view, seed, embeddings)
        if data.cache_images:
            self._stream.cache = {}

    def _select(self, subset: float, held_out: float, held: bool) -> list[np.ndarray] | None:
        """The ordinals of each shard that belong to this loader; None: all. Only then are all indices needed."""
        if subset == 1 and held_out == 0:
            return None
        chosen = []
        for shard, row in enumerate(self.manifest.shards):
            try:
                keys = [k.decode("ascii") for k in self._shards.index(shard).keys]
            except BadSample as e:
                self._record([(f"{row.name}#{i}", e.reason) for i in range(row.n_samples)])
                keys = []
            out = np.array([key_share(k, "held out") < held_out for k in keys], bool)
            inside = np.array([key_share(k, "subset") < subset for k in keys], bool)
            chosen.append(np.flatnonzero(out if held else inside & ~out))
        return chosen

    def steps(self, n_steps: int) -> Iterator[list[Batch]]:
        """The next n_steps steps from the current position: this rank's micro-batches of each (accumulate of
        them).

        `position` counts what was handed out: a checkpoint belongs after the work on the step at hand.
        """
        plan = batches(
            self.position, n_steps, self._data.batch_images, self._accumulate, self._rank, self._world
        )
        workers = self._data.workers
        loader: DataLoader[Any] = DataLoader(
            self._stream,
            batch_sampler=_Once(plan),
            num_workers=workers,
            collate_fn=_Collate(self._view.pad_to),
            pin_memory=self._pin_memory,
            prefetch_factor=self._data.prefetch if workers else None,
        )
        stop = threading.Event()
        fetcher = threading.Thread(target=self._fetch_ahead, args=(stop,), daemon=True)
        if self._shards.remote:
            fetcher.start()
        try:
            step: list[Batch] = []
            for batch in loader:
                self._record(batch.skipped)
                step.append(batch)
                if len(step) == self._accumulate:
                    self.position += self._data.batch_images
                    yield step
                    step = []
        finally:
            stop.set()

    def _fetch_ahead(self, stop: threading.Event) -> None:
        """Fetches the shards of the next window of a remote dataset while this one is read."""
        window = -1
        while not stop.is_set():
            following = self._order.next_window(self.position)
            if following != window:
                window = following
                for shard in self._order.window_shards(window):
                    if stop.is_set():
                        return
                    try:
                        self._shards.fetch(shard)
                    except BadSample:
                        continue  # whoever reads it records it
            stop.wait(0.2)

    def _record(self, skipped: list[tuple[str, str]]) -> None:
        for key, reason in skipped:
            self.skipped[reason] += 1
            self.skipped_keys[key] = reason
        total = self.manifest.n_samples
        if len(self.skipped_keys) > self._data.bad_budget * total + 1e-9:
            raise RuntimeError(
                f"{len(self.skipped_keys)} of {total} samples are corrupt ({dict(self.skipped)}), more than "
                f"data.bad_budget {self._data.bad_budget} allows; first: {next(iter(self.skipped_keys))}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, and of which stream it is the position."""
        return {
            "position": self.position,
            "seed": self._seed,
            "n_samples": self.n_samples,
            "window_shards": self._data.window_shards,
            "pool": self.manifest.pool,
            "fingerprint": self.manifest.fingerprint,
            "skipped": dict(self.skipped),
            "skipped_keys": dict(self.skipped_keys),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues a stream. Raises ValueError if it is another one: what remains could not be the same samples."""
        mine = self.state_dict()
        for field in ("seed", "n_samples", "window_shards", "pool", "fingerprint"):
            if state[field] != mine[field]:
                raise ValueError(f"cannot resume: {field} was {state[field]!r}, is {mine[field]!r}")
        self.position = int(state["position"])
        self.skipped = Counter(state["skipped"])
        self.skipped_keys = dict(state["skipped_keys"])

    def close(self) -> None:
        """Closes open shards."""
        self._shards.close()


class _Once:
    """A batch sampler over a generator that is read once."""

    def __init__(self, plan: Iterator[list[int]]):
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return self._plan
