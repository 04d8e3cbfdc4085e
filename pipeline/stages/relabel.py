"""Stage 2 of relabelling: stored samples -> the same images and regions with other labels.

torch is imported where the stage is made: workers of the other stages know this file and start without it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

import storage
from pipeline.dataset import concepts, records, sample
from pipeline.dataset.npz import read_npz
from pipeline.stages.chain import Job, Payload

#: What labels are not made of: copied as it is.
COPIED = ("boxes_xyxy_norm", "objectness", "caption_embeddings")


class Relabel:
    """Aligns stored region embeddings with the new pool: matrix products alone, no image is decoded."""

    name = "compute"
    reads = records.STORED
    writes = records.ANNOTATED

    def __init__(self, job: Job):
        from pipeline.align import Aligner
        from pipeline.corpus import classifier

        self._job = job
        self._vocabulary = concepts.load_vocabulary(job.layout)
        settings = job.settings
        fitted = None
        if settings.align.policy == "corpus":
            fitted = classifier.from_bytes(
                storage.read_bytes(job.layout.classifier), job.identity["fingerprint"]
            )
        self._aligner = Aligner(
            self._vocabulary.embeddings, settings.align, classifier=fitted, damping=settings.corpus.damping
        )

    def __call__(self, payload: Payload) -> pa.Table:
        import torch

        torch.set_num_threads(self._job.settings.threads)  # the setting is one of the calling thread
        rows = [self._row(stored) for stored in payload.table.to_pylist()]
        return records.with_images(rows, self.writes)

    def _row(self, stored: dict[str, Any]) -> dict[str, Any]:
        import torch

        from pipeline.align import Image

        arrays = read_npz(stored["arrays"])
        regions = torch.from_numpy(sample.region_embeddings(arrays))
        meta = json.loads(stored["meta"]) | {"mentioned": stored["mentioned"]}
        (alignment,) = self._aligner([regions], [Image.of_stored(meta, arrays)])
        meta |= self._job.identity
        del meta["pairs"]
        new = {name: arrays[name] for name in COPIED}
        new |= sample.alignment_arrays(alignment, len(self._vocabulary.names))
        new |= self._embeddings(arrays)
        phrases = stored["phrases"] if self._job.settings.pool.phrases else None
        pairs = sample.pairs_json(arrays, alignment, self._vocabulary.names, stored["spans"], phrases)
        return sample.annotated_row(stored["key"], stored["extension"], stored["image"], meta, new, pairs)

    def _embeddings(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The stored embeddings as they are, or in the form that the new settings ask for."""
        wanted = self._job.settings.align.region_embeddings
        if wanted == ("int8" if "region_scales" in arrays else "fp16"):
            return {name: arrays[name] for name in ("region_embeddings", "region_scales") if name in arrays}
        return sample.region_embedding_arrays(sample.region_embeddings(arrays), wanted)
