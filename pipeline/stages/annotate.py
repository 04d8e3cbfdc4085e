"""Samples -> annotated samples: decode, propose, encode regions, align with the pool."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline import localizers, teachers
from pipeline.align import Aligner, Alignment, AlignSettings
from pipeline.dataset.records import FORMAT_VERSION
from pipeline.dataset.shards import pack_arrays
from pipeline.devices import resolve_device
from pipeline.images import BadSample, decode
from pipeline.localizers import Localizer, Proposals
from pipeline.rejects import Rejects
from pipeline.settings import BuildSettings
from pipeline.teachers import Teacher


@dataclass(frozen=True)
class Vocabulary:
    """The pool as the annotator needs it: C names, their float32 [C, D] embeddings, and the pool's hash."""

    names: list[str]
    embeddings: torch.Tensor
    hash: str


@dataclass(frozen=True)
class Decoded:
    """A sample with its pixels: uint8 [H, W, 3], upright."""

    sample: dict[str, Any]
    pixels: np.ndarray
    extension: str


class Annotator:
    """Rows of `records.SAMPLES` -> rows of `records.ANNOTATED`. Holds the models; no I/O, no clock, no Ray.

    Micro-batches of `teacher.batch_images` are formed from the surviving samples in their order, so the result is a
    function of the part alone. While one micro-batch computes, the next one decodes in a thread.
    """

    def __init__(self, settings: BuildSettings, vocabulary: Vocabulary, fingerprint: str):
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._vocabulary = vocabulary
        self._fingerprint = fingerprint
        device = resolve_device(settings.teacher.device)
        self._localizer: Localizer = localizers.load(settings.localizer, device)
        self._teacher: Teacher = teachers.load(settings.teacher)
        self._aligner = Aligner(vocabulary.embeddings, settings.align)

    def __call__(self, samples: list[dict[str, Any]], rejects: Rejects) -> list[dict[str, Any]]:
        """Every sample comes back annotated or becomes a reject row."""
        torch.set_num_threads(self._settings.threads)  # the setting is one of the calling thread
        annotated: list[dict[str, Any]] = []
        chunks = _chunks(samples, self._settings.teacher.batch_images)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._decode, next(chunks, []), rejects)
            while decoded := ahead.result():
                ahead = pool.submit(self._decode, next(chunks, []), rejects)
                annotated += self._annotate([d for d in decoded if d], rejects)
        return annotated

    def _decode(self, samples: list[dict[str, Any]], rejects: Rejects) -> list[Decoded | None]:
        """One entry a sample; None where it was rejected, so that an empty list only means the end."""

        def work(sample: dict[str, Any]) -> Decoded:
            pixels, extension = decode(sample["image"], self._settings.source.max_pixels)
            return Decoded(sample, pixels, extension)

        done = rejects.guard("decode", work, samples, lambda s: s["source_key"])
        return [*done, *[None] * (len(samples) - len(done))]

    def _annotate(self, decoded: list[Decoded], rejects: Rejects) -> list[dict[str, Any]]:
        if not decoded:
            return []
        images = [d.pixels for d in decoded]
        proposals = self._localizer(images, [d.sample["source_key"] for d in decoded])
        regions = self._teacher.encode_regions(images, [p.boxes_xyxy_norm for p in proposals])
        captions = self._teacher.encode_text([c for d in decoded for c in d.sample["captions"]])
        captions = torch.nn.functional.normalize(captions, dim=1)
        parts = captions.split([len(d.sample["captions"]) for d in decoded])
        work = list(zip(decoded, proposals, regions, parts, strict=True))
        return rejects.guard("align", lambda w: self._pack(*w), work, lambda w: w[0].sample["source_key"])

    def _pack(
        self, decoded: Decoded, proposals: Proposals, regions: torch.Tensor, captions: torch.Tensor
    ) -> dict[str, Any]:
        if not bool(torch.isfinite(regions).all()) or not bool(torch.isfinite(captions).all()):
            raise BadSample("not_finite", "an embedding holds NaN or infinity")
        sample = decoded.sample
        boxes = proposals.boxes_xyxy_norm.astype(np.float32)
        alignment = self._aligner([regions], [sample["mentioned"]], [boxes])[0]
        pairs = np.flatnonzero(alignment.kept)
        arrays: dict[str, np.ndarray] = {
            "boxes_xyxy_norm": boxes,
            "objectness": proposals.objectness.astype(np.float32),
            "caption_embeddings": captions.numpy().astype(np.float16),
            **alignment_arrays(alignment, len(self._vocabulary.names)),
            **region_embedding_arrays(regions, self._settings.align),
        }
        return {
            "key": sample["key"],
            "extension": decoded.extension,
            "image": sample["image"],
            "meta": self._meta(decoded, proposals, alignment, pairs),
            "arrays": pack_arrays(arrays),
            "n_regions": len(proposals.objectness),
            "n_pairs": len(pairs),
            "pair_concept_ids": [int(i) for i in alignment.topk_ids[pairs, 0]],
        }

    def _meta(self, decoded: Decoded, proposals: Proposals, alignment: Alignment, pairs: np.ndarray) -> str:
        sample = decoded.sample
        height, width = decoded.pixels.shape[:2]
        meta = {
            "format_version": FORMAT_VERSION,
            "key": sample["key"],
            "source_key": sample["source_key"],
            "source": sample["source"],
            "width": width,
            "height": height,
            "captions": sample["captions"],
            "mentioned": list(sample["mentioned"]),
            "n_regions": len(proposals.objectness),
            "n_pairs": len(pairs),
            "pool": self._vocabulary.hash,
            "fingerprint": self._fingerprint,
            "pairs": pair_rows(proposals, alignment, pairs, self._vocabulary.names),
        }
        return json.dumps(meta, ensure_ascii=False)


def pair_rows(
    proposals: Proposals, alignment: Alignment, pairs: np.ndarray, names: list[str]
) -> list[dict[str, Any]]:
    """The kept regions for human eyes, as the .json member lists them (docs/format.md)."""
    rows = []
    for region in pairs:
        probs = alignment.topk_probs[region]
        rows.append(
            {
                "region": int(region),
                "box_xyxy_norm": [round(float(v), 5) for v in proposals.boxes_xyxy_norm[region]],
                "concept_id": int(alignment.topk_ids[region, 0]),
                "concept": names[alignment.topk_ids[region, 0]],
                "probability": round(float(probs[0]), 4),
                "margin": round(float(alignment.margin[region]), 4),
                "objectness": round(float(proposals.objectness[region]), 4),
            }
        )
    return rows


def alignment_arrays(alignment: Alignment, n_concepts: int) -> dict[str, np.ndarray]:
    """An alignment as it is stored: ids as uint16 where they fit, probabilities as float16."""
    return {
        "topk_ids": alignment.topk_ids.astype(np.uint16 if n_concepts <= 65536 else np.uint32),
        "topk_probs": alignment.topk_probs.astype(np.float16),
        "residual": alignment.residual.astype(np.float16),
        "kept": alignment.kept.astype(np.uint8),
    }


def region_embedding_arrays(regions: torch.Tensor, settings: AlignSettings) -> dict[str, np.ndarray]:
    """L2-normalised region embeddings as fp16 or as int8 with one scale a region; nothing where they are not asked for."""
    if settings.region_embeddings == "none":
        return {}
    unit = torch.nn.functional.normalize(regions, dim=1).numpy()
    if settings.region_embeddings == "fp16":
        return {"region_embeddings": unit.astype(np.float16)}
    scales = np.maximum(np.abs(unit).max(axis=1), 1e-12).astype(np.float32) / 127
    return {
        "region_embeddings": np.rint(unit / scales[:, None]).astype(np.int8),
        "region_scales": scales,
    }


def _chunks(samples: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(samples)
    return iter(lambda: list(itertools.islice(iterator, size)), [])
