"""Models, a source and a stage that cost nothing, so that what is left is the pipeline's own."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from concept_pool.settings import PoolSettings
from pipeline import localizers, teachers
from pipeline.dataset import records
from pipeline.localizers import Proposals
from pipeline.localizers.settings import LocalizerSettings
from pipeline.settings import BuildSettings
from pipeline.sources import Unit, index_row
from pipeline.stages.annotate import Annotate
from pipeline.stages.chain import Job, Payload
from pipeline.teachers.settings import TeacherSettings

DIM, BOXES = 64, 20
CAPTIONS = ["a red ball on a table", "the green boat and a blue kite"]


class NullTeacher:
    """Embeddings that are there already."""

    dim = DIM
    logit_scale = 100.0

    def __init__(self) -> None:
        self._row = torch.nn.functional.normalize(torch.arange(1.0, DIM + 1)[None], dim=1)

    def encode_regions(self, images: list[np.ndarray], boxes: list[np.ndarray]) -> list[torch.Tensor]:
        return [self._row.expand(len(b), -1) for b in boxes]

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self._row.repeat(len(texts), 1)


class NullLocalizer:
    """The same boxes on every image."""

    def __init__(self) -> None:
        low = np.random.default_rng(0).random((BOXES, 2)) * 0.5
        boxes = np.concatenate([low, low + 0.4], axis=1).astype(np.float32)
        self._proposals = Proposals(boxes, np.linspace(3, -3, BOXES, dtype=np.float32))

    def __call__(self, images: list[np.ndarray], keys: list[str] | None = None) -> list[Proposals]:
        return [self._proposals] * len(images)


def use_null_models() -> None:
    """Every model that this process loads from now on costs nothing."""
    localizers.load = lambda settings, device="cpu": NullLocalizer()  # type: ignore[assignment]
    teachers.load = lambda settings: NullTeacher()


class Decodings:
    """What the annotators of this process decode from now on: how many images, in how many seconds.

    cpu_s: of the threads that decode, while they do. clock_s: of the same, with waits for a core and for Python's lock.
    at: when that was, by a clock that all processes of the machine share.
    """

    WHAT = ("n", "cpu_s", "clock_s", "at")

    def __init__(self) -> None:
        from pipeline.stages import annotator

        self._real, self._by_thread = annotator.decode, dict[int, tuple[int, float, float]]()
        annotator.decode = self._timed

    def so_far(self) -> dict[str, float]:
        """`WHAT` -> how much by now."""
        sums = map(sum, zip((0, 0.0, 0.0), *self._by_thread.copy().values(), strict=True))
        return dict(zip(self.WHAT, (*sums, time.perf_counter()), strict=True))

    def _timed(self, *arguments: Any) -> Any:
        clock, cpu = time.perf_counter(), time.thread_time()
        found = self._real(*arguments)
        own = threading.get_ident()  # nobody else writes there, so no thread waits for another
        n, cpu_s, clock_s = self._by_thread.get(own, (0, 0.0, 0.0))
        spent = time.thread_time() - cpu, time.perf_counter() - clock
        self._by_thread[own] = n + 1, cpu_s + spent[0], clock_s + spent[1]
        return found


class FreeAnnotate(Annotate):
    """`Annotate` with models that cost nothing, in whatever process it lives. Its payloads say what it has decoded."""

    def __init__(self, job: Job):
        use_null_models()
        super().__init__(job)
        self._decodings = Decodings()

    def __call__(self, payload: Payload) -> pa.Table:
        table = super().__call__(payload)
        payload.seconds.update({f"decodings {k}": v for k, v in self._decodings.so_far().items()})
        return table


class NullAnnotate:
    """Nothing is decoded and nothing computed: every sample gets the same arrays."""

    name = "compute"
    reads = records.SAMPLES
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        self._identity = job.identity
        self._arrays = b"\0" * 256

    def __call__(self, payload: Payload) -> pa.Table:
        rows = [
            {
                "key": row["key"],
                "extension": "jpg",
                "image": row["image"],
                "meta": json.dumps({"source_key": row["source_key"], **self._identity}),
                "arrays": self._arrays,
                "n_regions": 1,
                "n_pairs": 1,
                "pair_concept_ids": row["mentioned"][:1],
            }
            for row in payload.table.to_pylist()
        ]
        return pa.Table.from_pylist(rows, self.writes)


class NullSource:
    """n images of no bytes, in units of `per_unit`."""

    root = ""
    unique_keys = True
    has_images = True

    def __init__(self, n: int, per_unit: int = 512):
        self._n, self._per_unit = n, per_unit

    def units(self) -> list[Unit]:
        return [
            Unit("", -1, "", start, min(start + self._per_unit, self._n))
            for start in range(0, self._n, self._per_unit)
        ]

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        for i in range(unit.start, unit.stop):
            yield index_row(f"{i:09d}", "", CAPTIONS, row=i)

    def read(self, row: dict[str, Any]) -> bytes:
        return str(row["row"]).encode()

    def check(self) -> None:
        pass

    def identity(self) -> dict[str, Any]:
        return {"n": self._n}


def settings_for(out: Path, **changes: Any) -> BuildSettings:
    """A build of the demo's kind, with one local worker and a sample a shard."""
    values: dict[str, Any] = {
        "out": str(out),
        "runtime": "local",
        "samples_per_shard": 1,
        "workers": 1,
        "pool": PoolSettings(min_count=1),
        "localizer": LocalizerSettings(kind="grid", max_proposals=20),
        "teacher": TeacherSettings(kind="shapes"),
    }
    return BuildSettings(**{**values, **changes})


def photos(n: int, width: int = 640, height: int = 480) -> list[bytes]:
    """n JPEG pictures (noise over gradients) as COCO's photographs are: 4:4:4 at quality 96, 166 kB at 640 x 480.

    (287 photographs of COCO 2017: 167 kB on average, 3.8 ms to decode where these take 4.0 ms.)
    """
    return _noise(n, width, height, sigma=3, quality=96, subsampling=0)


def light_photos(n: int) -> list[bytes]:
    """n JPEG pictures of 640 x 480 and 75 kB, 4:2:0 at quality 88, as the web has them."""
    return _noise(n, 640, 480, sigma=6, quality=88, subsampling=2)


def _noise(n: int, width: int, height: int, sigma: float, quality: int, subsampling: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    across = np.linspace(0, 200, width)[None, :, None] * np.array([1.0, 0.6, 0.3])
    down = np.linspace(0, 50, height)[:, None, None]
    found = []
    for _ in range(n):
        coarse = rng.normal(0, 24, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
        fine = rng.normal(0, sigma, (height, width, 3))
        pixels = np.clip(across + down + coarse + fine, 0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", quality=quality, subsampling=subsampling)
        found.append(sink.getvalue())
    return found
