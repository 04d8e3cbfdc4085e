"""Samples -> samples with regions and labels: the models, and the threads that decode for them."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from pipeline import localizers, teachers
from pipeline.dataset.concepts import Vocabulary
from pipeline.devices import resolve_device
from pipeline.filters import check_size
from pipeline.images import BadSample, decode
from pipeline.jpeg_gpu import GpuJpegs
from pipeline.localizers import Localizer
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.stages.batches import in_order, micro_batches, seen_size
from pipeline.stages.chain import note
from pipeline.stages.packing import Decoded, Embedded, Packer
from pipeline.teachers import Teacher
from pipeline.teachers.tower import prepare_of

#: Micro-batches that are decoded ahead of the one that computes.
AHEAD = 2
#: What of a caption reaches the text encoder: tokenisers take time that grows with the square of a word's length.
MAX_WORD, MAX_TEXT = 100, 2000
#: The box of a whole image: its embedding is compared with those of the captions.
_WHOLE = np.array([[0, 0, 1, 1]], np.float32)
_LONG_WORD = re.compile(rf"(\S{{{MAX_WORD}}})\S+")


class Annotator:
    """Rows of `records.SAMPLES` -> rows of `records.ANNOTATED`. Holds the models; no I/O, no clock, no Ray.

    Micro-batches of `teacher.batch_images` are formed inside a part, of images that the teacher sees at one size as far as
    there are enough (`batches.py`), so the result is a function of the part alone; rows come back in the samples' order.
    While one micro-batch computes, the next ones decode in threads. Threads may call it side by side, each with a part of
    its own: `at_once` of them run models at a time, the others decode, pack, or are outside of it. A runner that sends one
    part more than that in never lets a model wait for another thing. On a GPU each thread has a stream of its own, and
    one part more may hand in its work, so that the GPU has it when it has done the work before. teacher: that of the
    settings, where it is loaded already.
    """

    def __init__(
        self,
        settings: BuildSettings,
        vocabulary: Vocabulary,
        fingerprint: str,
        decode_threads: int = 1,
        at_once: int = 1,
        teacher: Teacher | None = None,
    ):
        torch.set_num_threads(settings.threads)
        self._settings = settings
        device = resolve_device(settings.teacher.device)
        self._pack = Packer(settings, vocabulary, fingerprint, device)
        self._localizer: Localizer = localizers.load(settings.localizer, device)
        self._teacher: Teacher = teacher or teachers.load(settings.teacher)
        on_gpu = settings.jpeg_on == "gpu"
        self._jpegs = GpuJpegs(settings.teacher.device, settings.source.max_pixels) if on_gpu else None
        self._decoders = ThreadPoolExecutor(decode_threads * at_once, thread_name_prefix="decode")
        self._prepare = prepare_of(self._teacher)
        self._device = torch.device(device)
        self._turn = threading.Semaphore(at_once + (self._device.type == "cuda"))
        self._own = threading.local()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # other streams may read what was put there

    def __call__(self, samples: list[dict[str, Any]], rejects: Rejects) -> list[dict[str, Any]]:
        """Every sample comes back annotated or becomes a reject row."""
        torch.set_num_threads(self._settings.threads)  # the setting is one of the calling thread
        self._own.waited_s = 0.0
        annotated: list[dict[str, Any]] = []
        n_before = len(rejects.rows)
        with self._stream():
            for decoded in self._decoded(samples, rejects):
                annotated += self._annotate(decoded, rejects)
        source_keys = [sample["source_key"] for sample in samples]
        rejects.rows[n_before:] = in_order(rejects.rows[n_before:], source_keys, "source_key")
        return in_order(annotated, [sample["key"] for sample in samples], "key")

    @property
    def waited_s(self) -> float:
        """Seconds that the calling thread's last part waited for others' models."""
        return float(self._own.waited_s)

    def _stream(self) -> AbstractContextManager[Any]:
        """A GPU's stream of the calling thread: what waits for its results does not wait for those of other threads."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._own.stream)

    def _decoded(self, samples: list[dict[str, Any]], rejects: Rejects) -> Iterator[list[Decoded]]:
        """Micro-batches with their pixels, `AHEAD` of them decoded before they are asked for."""
        waiting: deque[list[tuple[dict[str, Any], Future[Decoded]]]] = deque()
        try:
            for chunk in self._batches(samples):
                waiting.append(self._submitted(chunk))
                if len(waiting) > AHEAD:
                    yield _surviving(waiting.popleft(), rejects)
            while waiting:
                yield _surviving(waiting.popleft(), rejects)
        finally:
            for left in waiting:
                for _, future in left:
                    future.cancel()

    def _batches(self, samples: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Micro-batches; by headers where the teacher says at which size it sees an image."""
        largest = self._settings.teacher.batch_images
        size_of = getattr(self._teacher, "seen_size", None)
        if size_of is None or largest == 1:
            return _chunks(samples, largest)
        sizes = list(self._decoders.map(lambda sample: seen_size(bytes(sample["image"]), size_of), samples))
        return ([samples[i] for i in batch] for batch in micro_batches(sizes, largest))

    def _submitted(self, chunk: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Future[Decoded]]]:
        """A micro-batch that is being decoded. A GPU gets it whole, before the threads take what it left to them."""
        if self._jpegs is None:
            return [(row, self._decoders.submit(self._decode, row)) for row in chunk]
        together = self._decoders.submit(self._jpegs, [bytes(row["image"]) for row in chunk])
        return [(row, self._decoders.submit(self._decode, row, together, i)) for i, row in enumerate(chunk)]

    def _decode(
        self, row: dict[str, Any], together: Future[list[np.ndarray | None]] | None = None, place: int = 0
    ) -> Decoded:
        done = together.result()[place] if together else None
        pixels, extension = (
            (done, "jpg")
            if done is not None
            else decode(bytes(row["image"]), self._settings.source.max_pixels)
        )
        check_size(pixels.shape[1], pixels.shape[0], self._settings.filters)
        return Decoded(row, pixels, extension, self._seen(pixels))

    def _seen(self, pixels: np.ndarray) -> Any:
        """An image as `encode_regions` takes it."""
        if self._prepare is None:
            return pixels
        try:
            return self._prepare(pixels)
        except Exception as e:
            if is_of_the_machine(e):
                raise
            raise BadSample("model_error", f"{type(e).__name__}: {e}") from e

    def _annotate(self, decoded: list[Decoded], rejects: Rejects) -> list[dict[str, Any]]:
        """A micro-batch through the models. If they raise, each of its samples alone, so that one costs only itself."""
        try:
            started = time.perf_counter()
            with self._turn:
                self._own.waited_s += time.perf_counter() - started
                work = self._embed(decoded)
        except Exception as e:
            if len(decoded) > 1:
                return [row for one in decoded for row in self._annotate([one], rejects)]
            (one,) = decoded
            note(e, f"sample {one.sample['source_key']}")
            if is_of_the_machine(e):
                raise
            rejects.add("compute", one.sample, "model_error", f"{type(e).__name__}: {e}")
            return []
        return self._pack(work, rejects)

    def _embed(self, decoded: list[Decoded]) -> list[Embedded]:
        if not decoded:
            return []
        images = [d.pixels for d in decoded]
        proposals = self._localizer(images, [d.sample["source_key"] for d in decoded])
        boxes = [p.boxes_xyxy_norm.astype(np.float32) for p in proposals]
        with_whole = [np.concatenate([b, _WHOLE]) for b in boxes]
        regions = self._teacher.encode_regions([d.seen for d in decoded], with_whole)
        texts = [readable(c) for d in decoded for c in d.sample["captions"]]
        captions = torch.nn.functional.normalize(self._teacher.encode_text(texts), dim=1)
        parts = captions.split([len(d.sample["captions"]) for d in decoded])
        objectness = [p.objectness.astype(np.float32) for p in proposals]
        return list(map(Embedded, decoded, boxes, objectness, regions, parts))


def readable(caption: str) -> str:
    """A caption as the text encoder gets it: words and the whole cut to a length that costs little."""
    return _LONG_WORD.sub(r"\1", caption[:MAX_TEXT])


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error of a model is the machine's (memory, device, files) and not one that a sample's values cause."""
    if isinstance(error, OSError | MemoryError | ImportError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(
        word in text for word in ("cuda", "cudnn", "cublas", "nccl", "out of memory", "can't allocate")
    )


def _surviving(work: list[tuple[dict[str, Any], Future[Decoded]]], rejects: Rejects) -> list[Decoded]:
    return rejects.guard("decode", lambda w: w[1].result(), work, lambda w: w[0])


def _chunks(samples: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(samples)
    return iter(lambda: list(itertools.islice(iterator, size)), [])
