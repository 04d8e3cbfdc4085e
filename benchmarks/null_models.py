"""Models, a source and a stage that cost nothing, so that what is left is the pipeline's own."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from pipeline import localizers, teachers
from pipeline.dataset import records
from pipeline.localizers import Proposals
from pipeline.sources import Unit, index_row
from pipeline.stages.annotate import Annotate
from pipeline.stages.chain import Job, Payload

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


class FreeAnnotate(Annotate):
    """`Annotate` with models that cost nothing, in whatever process it lives."""

    def __init__(self, job: Job):
        use_null_models()
        super().__init__(job)


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


def photos(n: int, width: int = 640, height: int = 480) -> list[bytes]:
    """n JPEG pictures of about a photograph's size in bytes (noise over gradients)."""
    rng = np.random.default_rng(0)
    across = np.linspace(0, 200, width)[None, :, None] * np.array([1.0, 0.6, 0.3])
    down = np.linspace(0, 50, height)[:, None, None]
    found = []
    for _ in range(n):
        coarse = rng.normal(0, 24, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
        fine = rng.normal(0, 6, (height, width, 3))
        pixels = np.clip(across + down + coarse + fine, 0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", quality=88)
        found.append(sink.getvalue())
    return found
