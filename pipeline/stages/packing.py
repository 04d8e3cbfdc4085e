"""The end of annotating: a micro-batch's embeddings -> labels, arrays, JSON. No models, no threads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.align import Aligner, Alignment, Image
from pipeline.dataset import sample
from pipeline.dataset.concepts import Vocabulary
from pipeline.filters import check_image_text
from pipeline.images import BadSample
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings


@dataclass(frozen=True)
class Decoded:
    """A sample with its pixels: uint8 [H, W, 3], upright; seen: what the teacher takes of them."""

    sample: dict[str, Any]
    pixels: np.ndarray
    extension: str
    seen: Any


@dataclass(frozen=True)
class Embedded:
    """A sample behind the models.

    boxes_xyxy_norm: float32 [R, 4]. objectness: float32 [R]. regions: [R + 1, D], the whole image last. captions: [T, D],
    unit rows.
    """

    decoded: Decoded
    boxes_xyxy_norm: np.ndarray
    objectness: np.ndarray
    regions: torch.Tensor
    captions: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.decoded.pixels.shape[:2]
        return width, height


class Packer:
    """Samples behind the models -> rows of `records.ANNOTATED`.

    What can be done for all samples of a micro-batch at once is; no sample's row depends on the others. device: where
    regions are compared with concepts.
    """

    def __init__(
        self, settings: BuildSettings, vocabulary: Vocabulary, fingerprint: str, device: str = "cpu"
    ):
        self._settings = settings
        self._names = vocabulary.names
        self._identity = {"pool": vocabulary.hash, "fingerprint": fingerprint}
        self._aligner = Aligner(vocabulary.embeddings, settings.align, device)

    def __call__(self, work: list[Embedded], rejects: Rejects) -> list[dict[str, Any]]:
        """A row of each sample, but for those that became rejects."""
        if not work:
            return []
        whole = torch.nn.functional.normalize(torch.stack([w.regions[-1] for w in work]), dim=1)
        checked = zip(work, whole, _finite(work), strict=True)
        usable = rejects.guard("align", lambda c: self._checked(*c), checked, _sample_of)
        regions = [w.regions[:-1] for w, _ in usable]
        images = [
            Image(w.decoded.sample["mentioned"], w.boxes_xyxy_norm, w.objectness, w.size) for w, _ in usable
        ]
        alignments = self._aligner(regions, images)
        arrays = [
            self._arrays(w, alignment, stored)
            for (w, _), alignment, stored in zip(usable, alignments, self._stored(regions), strict=True)
        ]
        texts = sample.pair_texts(list(zip(arrays, alignments, strict=True)))
        labelled = [
            (w, similar, alignment, own, text)
            for (w, similar), alignment, own, text in zip(usable, alignments, arrays, texts, strict=True)
        ]
        return rejects.guard("align", lambda own: self._row(*own), labelled, _sample_of)

    def _checked(self, w: Embedded, whole: torch.Tensor, finite: bool) -> tuple[Embedded, list[float]]:
        """A sample, and the cosine of its whole image, a unit row, with each caption."""
        if not finite:
            raise BadSample("not_finite", "an embedding holds NaN or infinity")
        similar = [round(cosine, 4) for cosine in (w.captions @ whole).tolist()]
        check_image_text(similar, self._settings.filters)
        return w, similar

    def _stored(self, regions: list[torch.Tensor]) -> list[dict[str, np.ndarray]]:
        """The embeddings of each image's regions, in the form in which they are kept."""
        form = self._settings.align.region_embeddings
        if form == "none" or not regions:
            return [{} for _ in regions]
        arrays = sample.region_embedding_arrays(torch.cat(regions).numpy(), form)
        ends = np.cumsum([len(r) for r in regions])[:-1]
        columns = [[(name, part) for part in np.split(array, ends)] for name, array in arrays.items()]
        return [dict(parts) for parts in zip(*columns, strict=True)]

    def _arrays(
        self, w: Embedded, alignment: Alignment, stored: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        return {
            "boxes_xyxy_norm": w.boxes_xyxy_norm,
            "objectness": w.objectness,
            "caption_embeddings": w.captions.numpy().astype(np.float16),
            **sample.alignment_arrays(alignment, len(self._names)),
            **stored,
        }

    def _row(
        self,
        w: Embedded,
        similar: list[float],
        alignment: Alignment,
        arrays: dict[str, np.ndarray],
        texts: sample.PairTexts,
    ) -> dict[str, Any]:
        row = w.decoded.sample
        width, height = w.size
        meta = {
            "source_key": row["source_key"],
            "source": row["source"],
            "width": width,
            "height": height,
            "captions": row["captions"],
            "image_text_scores": similar,
            **({"extra": json.loads(row["extra"])} if row["extra"] else {}),
            "mentioned": list(row["mentioned"]),
            **self._identity,
        }
        phrases = row["phrases"] if self._settings.pool.phrases else None
        pairs = sample.pairs_json(arrays, alignment, self._names, row["spans"], phrases, texts)
        return sample.annotated_row(row["key"], w.decoded.extension, row["image"], meta, arrays, pairs)


def _finite(work: list[Embedded]) -> list[bool]:
    """Whether each sample's embeddings hold neither NaN nor infinity."""
    together = (torch.cat([w.regions for w in work]), torch.cat([w.captions for w in work]))
    if all(np.isfinite(rows.numpy()).all() for rows in together):
        return [True] * len(work)
    return [bool(w.regions.isfinite().all() and w.captions.isfinite().all()) for w in work]


def _sample_of(parts: tuple[Any, ...]) -> dict[str, Any]:
    return parts[0].decoded.sample
