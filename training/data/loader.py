"""The loader: a dataset in, equal micro-batches out, resumable at any sample.

A map-style dataset over stream positions under torch's own DataLoader. `torchdata`'s StatefulDataLoader was weighed: its
state belongs to one number of ranks and of workers. Here the whole state is one integer, the position in the stream
(training/data/order.py), which any number of ranks, loader processes and images a batch continues exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.dataset import Dataset
from pipeline.dataset.damage import DamagedDataset
from pipeline.dataset.random_access import Shards
from pipeline.images import BadSample
from training.data import pixels
from training.data.batch import Batch, Item, collate
from training.data.budget import BadBudget, check_budget
from training.data.mixture import MixedOrder, Mixture
from training.data.order import Once, Order, batches, view_rng
from training.data.views import Sample, View, draw_view, parse, with_concept_ids
from training.settings import DataSettings, ViewSettings


class Stream(torch.utils.data.Dataset):
    """Positions in the stream -> a batch: a view of the sample at each, or of another one if that is corrupt."""

    def __init__(
        self,
        shards: Shards,
        selected: list[np.ndarray] | None,
        order: Order | MixedOrder,
        settings: ViewSettings,
        seed: int,
        embeddings: bool,
        cache: bool,
        concept_ids: list[np.ndarray | None] | None = None,
    ):
        self._shards = shards
        self._selected = selected
        self._order = order
        self._settings = settings
        self._seed = seed
        self._embeddings = embeddings
        self._concept_ids = concept_ids
        self._samples: dict[tuple[int, int], Sample] | None = {} if cache else None
        self._images: dict[str, torch.Tensor] = {}
        self._most_bytes = 0  # of an image so far

    def __getitem__(self, positions: list[int]) -> Batch | Exception:
        """One batch, or why there is none: raised in another process, an error would come as the text of a traceback."""
        try:
            return self._batch(positions)
        except (DamagedDataset, BadBudget, OSError) as e:
            return e

    def _batch(self, positions: list[int]) -> Batch:
        """First all targets, then all images: in turns the former cost twice as much (the processor's cache)."""
        begun = [self._begin(position) for position in positions]
        buffer = pixels.PixelBuffer(len(positions) * self._most_bytes)
        items = [self._item(*each, buffer) for each in begun]
        self._most_bytes = max(
            [self._most_bytes, *(height * width * 3 for height, width in (i.size for i in items))]
        )
        return collate(items, buffer.images(), self._settings.pad_to)

    def _begin(self, position: int) -> tuple[_Candidates, Sample, View]:
        candidates = _Candidates(position, self._order)
        return candidates, *self._next_view(candidates)

    def _next_view(self, candidates: _Candidates) -> tuple[Sample, View]:
        """The next candidate whose targets can be read, and its view."""
        while candidates.advance():
            try:
                sample = self._sample(*candidates.place)
            except BadSample as e:
                candidates.skipped.append((self._name(*candidates.place), e.reason))
                continue
            return sample, draw_view(sample, self._settings, view_rng(self._seed, candidates.position))
        row = self._shards.rows[candidates.place[0]]
        key, reason = candidates.skipped[-1]
        raise BadBudget(
            f"{len(candidates.skipped)} damaged samples in a row, the last one {key} ({reason})", row.advice
        )

    def _item(self, candidates: _Candidates, sample: Sample, view: View, buffer: pixels.PixelBuffer) -> Item:
        while True:
            try:
                image, size = self._image(sample, candidates.place)
            except BadSample as e:
                candidates.skipped.append((sample.key, e.reason))
                sample, view = self._next_view(candidates)
                continue
            buffer.add(image, *size)
            return Item(view, size, candidates.skipped)

    def _sample(self, shard: int, ordinal: int) -> Sample:
        if self._samples is not None and (shard, ordinal) in self._samples:
            return self._samples[shard, ordinal]
        try:
            sample = self._read(shard, ordinal)
        except BadSample:
            if not self._shards.renew(shard):
                raise
            sample = self._read(shard, ordinal)
        if self._samples is not None:
            self._samples[shard, ordinal] = sample
        return sample

    def _read(self, shard: int, ordinal: int) -> Sample:
        sample = parse(*self._shards.read(shard, self._stored(shard, ordinal)), self._embeddings)
        ids = None if self._concept_ids is None else self._concept_ids[shard]
        return sample if ids is None else with_concept_ids(sample, ids)

    def _image(self, sample: Sample, place: tuple[int, int]) -> tuple[torch.Tensor, tuple[int, int]]:
        """The decoded image, and the size that it is to be seen in."""
        image = self._images.get(sample.key)
        if image is not None:
            return image, (image.shape[0], image.shape[1])
        s = self._settings
        least = s.short_side if s.decode == "fast" else 0
        try:
            image = pixels.decode(sample.encoded, least)
        except BadSample:
            if not self._shards.renew(place[0]):
                raise
            image = pixels.decode(self._read(*place).encoded, least)
        size = pixels.target_size(image.shape[0], image.shape[1], s.short_side, s.long_side)
        if self._samples is not None:
            image = self._images[sample.key] = pixels.resize(image, *size)
        return image, size

    def _stored(self, shard: int, ordinal: int) -> int:
        """The ordinal within the shard's file of one within those of its samples that belong to this stream."""
        return ordinal if self._selected is None else int(self._selected[shard][ordinal])

    def _name(self, shard: int, ordinal: int) -> str:
        return self._shards.index(shard).keys[self._stored(shard, ordinal)].decode("ascii")


class _Candidates:
    """The places of the samples that may stand at a position, its own first, and those that turned out damaged."""

    def __init__(self, position: int, order: Order | MixedOrder):
        self.position = position
        self._places = chain([order.locate(position)], order.replacements(position))
        self.place = (0, 0)
        self.skipped: list[tuple[str, str]] = []

    def advance(self) -> bool:
        """Makes the next candidate `place`. Whether there is one."""
        following = next(self._places, None)
        self.place = following or self.place
        return following is not None


class Loader:
    """Equal micro-batches of one rank, from a dataset.

    selected: the ordinals of each shard that belong to the stream; None: all. mixed: the datasets of a mixture come by
    their weights, else each of their samples once an epoch. n_samples is the size of an epoch.
    `skipped` counts damaged samples by reason, `skipped_keys` names them; too many of them (data.bad_budget) raise
    BadBudget. A shard that cannot be read raises: nothing is replaced because of it.
    """

    def __init__(
        self,
        dataset: Dataset | Mixture,
        shards: Shards,
        data: DataSettings,
        view: ViewSettings,
        *,
        selected: list[np.ndarray] | None = None,
        mixed: bool = True,
        seed: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        pin_memory: bool = False,
        embeddings: bool = True,
        start_method: str | None = None,
    ):
        self._data, self._seed = data, seed
        self._accumulate, self._rank, self._world = accumulate, rank, world
        self._pin_memory, self._start_method = pin_memory, start_method
        self.dataset = dataset
        self.skipped: Counter[str] = Counter()
        self.skipped_keys: dict[str, str] = {}
        self.position = 0
        self._shards, self._selected = shards, selected
        counts = [s.n_samples for s in dataset.shards] if selected is None else [len(s) for s in selected]
        mixture = dataset if isinstance(dataset, Mixture) else None
        self._order: Order | MixedOrder
        if mixture and mixed:
            self._order = mixture.order(counts, seed, data.window_shards)
        else:
            self._order = Order(counts, seed, data.window_shards)
        self.n_samples = self._order.n_samples
        ids = mixture.concept_ids() if mixture else None
        self._stream = Stream(shards, selected, self._order, view, seed, embeddings, data.cache_images, ids)

    def stream_hash(self) -> bytes:
        """sha256 of all that decides which samples the steps of all ranks see."""
        head = (self._seed, self._data.window_shards, self._data.batch_images, self._accumulate, self._world)
        digest = hashlib.sha256(repr((head, self.dataset.fingerprint, self.dataset.pool_hash)).encode())
        digest.update(self._order.counts.tobytes())
        for ordinals in self._selected or ():
            digest.update(ordinals.astype(np.int64).tobytes())
        return digest.digest()

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
            batch_size=None,  # the dataset makes batches
            sampler=Once(plan),
            num_workers=workers,
            pin_memory=self._pin_memory,
            prefetch_factor=self._data.prefetch if workers else None,
            multiprocessing_context=self._start_method if workers else None,
        )
        stop = threading.Event()
        fetcher = threading.Thread(target=self._fetch_ahead, args=(stop,), daemon=True)
        try:
            step: list[Batch] = []
            loaded = iter(loader)  # starts the processes
            if self._shards.remote:
                fetcher.start()  # after them: what a thread holds while its process forks, a child would hold for ever
            for batch in loaded:
                if isinstance(batch, Exception):
                    raise batch
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
                    with contextlib.suppress(BadSample, OSError):  # whoever reads it meets it again
                        self._shards.fetch(shard)
            stop.wait(0.2)

    def _record(self, skipped: list[tuple[str, str]]) -> None:
        for key, reason in skipped:
            self.skipped[reason] += 1
            self.skipped_keys[key] = reason
        check_budget(self.dataset, self.skipped_keys, self._data.bad_budget)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, and of which stream it is the position."""
        return {
            "position": self.position,
            "seed": self._seed,
            "n_samples": self.n_samples,
            "window_shards": self._data.window_shards,
            "pool": self.dataset.pool_hash,
            "fingerprint": self.dataset.fingerprint,
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
