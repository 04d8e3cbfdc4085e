"""The loader: a manifest in, equal micro-batches out, resumable at any sample.

A map-style dataset over stream positions under torch's own DataLoader. `torchdata`'s StatefulDataLoader was
weighed: its state belongs to one number of ranks and of workers, and it replays or snapshots what we can
compute. Here the whole state is one integer, the position in the stream (training/data/order.py), which any number
of ranks, loader processes and images a batch continues exactly.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.dataset.manifest import Manifest
from pipeline.dataset.random_access import Shards
from pipeline.images import BadSample
from training.data import pixels
from training.data.batch import Batch, Item, collate
from training.data.order import Order, batches, key_share, view_rng
from training.data.views import Sample, View, draw_view, parse
from training.settings import DataSettings, ViewSettings


class Stream(Dataset):
    """Positions in the stream -> a batch: a view of the sample at each, or of another one if that is corrupt."""

    def __init__(
        self,
        shards: Shards,
        selected: list[np.ndarray] | None,
        order: Order,
        settings: ViewSettings,
        seed: int,
        embeddings: bool,
        cache: bool,
    ):
        self._shards = shards
        self._selected = selected
        self._order = order
        self._settings = settings
        self._seed = seed
        self._embeddings = embeddings
        self._samples: dict[tuple[int, int], Sample] | None = {} if cache else None
        self._images: dict[str, torch.Tensor] = {}
        self._most_bytes = 0  # of an image so far

    def __getitem__(self, positions: list[int]) -> Batch:
        """One batch: first all targets and then all images. In turns the former cost twice as much, since an image
        fills the processor's cache."""
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
        for place in candidates.places:
            try:
                sample = self._sample(*place)
            except BadSample as e:
                candidates.skipped.append((self._name(*place), e.reason))
                continue
            return sample, draw_view(sample, self._settings, view_rng(self._seed, candidates.position))
        raise RuntimeError(
            f"{len(candidates.skipped)} corrupt samples in a row, last {candidates.skipped[-1]}: is the dataset gone?"
        )

    def _item(self, candidates: _Candidates, sample: Sample, view: View, buffer: pixels.PixelBuffer) -> Item:
        while True:
            try:
                image, size = self._image(sample)
            except BadSample as e:
                candidates.skipped.append((sample.key, e.reason))
                sample, view = self._next_view(candidates)
                continue
            buffer.add(image, *size)
            return Item(view, size, candidates.skipped)

    def _sample(self, shard: int, ordinal: int) -> Sample:
        if self._samples is not None and (shard, ordinal) in self._samples:
            return self._samples[shard, ordinal]
        stored = ordinal if self._selected is None else int(self._selected[shard][ordinal])
        sample = parse(*self._shards.read(shard, stored), self._embeddings)
        if self._samples is not None:
            self._samples[shard, ordinal] = sample
        return sample

    def _image(self, sample: Sample) -> tuple[torch.Tensor, tuple[int, int]]:
        """The decoded image, and the size that it is to be seen in."""
        image = self._images.get(sample.key)
        if image is not None:
            return image, (image.shape[0], image.shape[1])
        s = self._settings
        image = pixels.decode(sample.encoded, min_short_side=s.short_side if s.decode == "fast" else 0)
        size = pixels.target_size(image.shape[0], image.shape[1], s.short_side, s.long_side)
        if self._samples is not None:
            image = self._images[sample.key] = pixels.resize(image, *size)
        return image, size

    def _name(self, shard: int, ordinal: int) -> str:
        stored = ordinal if self._selected is None else int(self._selected[shard][ordinal])
        try:
            return self._shards.index(shard).keys[stored].decode("ascii")
        except BadSample:
            return f"{self._shards.rows[shard].name}#{stored}"


class _Candidates:
    """The places of the samples that may stand at a position, its own first, and those that turned out corrupt."""

    def __init__(self, position: int, order: Order):
        self.position = position
        self.places = chain([order.locate(position)], order.replacements(position))
        self.skipped: list[tuple[str, str]] = []


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
        self._stream = Stream(self._shards, selected, self._order, view, seed, embeddings, data.cache_images)

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
            batch_size=None,  # the dataset makes batches
            sampler=_Once(plan),
            num_workers=workers,
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
    """A sampler over a generator that is read once."""

    def __init__(self, plan: Iterator[list[int]]):
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return self._plan
