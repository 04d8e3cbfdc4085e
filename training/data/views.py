"""A stored sample -> arrays -> one view of it. Pure functions; randomness comes in as a generator."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields, replace

import numpy as np

from pipeline.dataset.npz import read_npz
from pipeline.dataset.sample import is_pair, region_embeddings
from pipeline.images import BadSample
from training.settings import ViewSettings

_UNUSED = frozenset({"objectness", "scores"})
_EMBEDDINGS = frozenset({"region_embeddings", "region_scales"})
_SIDED = re.compile(r"\b(left|right)", re.IGNORECASE)


@dataclass(frozen=True)
class Regions:
    """R regions of an image and their targets in the dtypes of the dataset; docs/format.md says what each means.

    boxes: [R, 4], xyxy in [0, 1] of the image. topk_ids, topk_probs: [R, k]. residual: [R]. kept: bool [R], the pairs.
    embeddings: [R, D] of the teacher, or [R, 0] where the dataset stores none or they are not wanted.
    """

    boxes: np.ndarray
    topk_ids: np.ndarray
    topk_probs: np.ndarray
    residual: np.ndarray
    kept: np.ndarray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: np.ndarray) -> Regions:
        """Some of the regions, by their indices."""
        return Regions(*(getattr(self, f.name).take(rows, axis=0) for f in fields(self)))


@dataclass(frozen=True)
class Sample:
    """An image as it is stored, and what is stored with it.

    captions: [T, D], unit rows. sided: a caption names left or right. caption_scores: [T], how similar each caption is to
    the image; None where that was not stored.
    """

    key: str
    encoded: memoryview
    regions: Regions
    captions: np.ndarray
    sided: bool
    caption_scores: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """What one step sees of a sample, besides its pixels.

    regions: those drawn. caption: [D], one of the sample's captions, or zeros with has_caption False. mirrored: the boxes
    are, and the image has to be (`Batch.images` does it).
    """

    key: str
    regions: Regions
    caption: np.ndarray
    has_caption: bool
    mirrored: bool


def parse(key: str, image, meta, arrays, embeddings: bool = True) -> Sample:
    """The three members of a sample, bytes-like each, with the arrays decoded. Raises BadSample if they cannot be used.

    embeddings: whether the teacher's region embeddings, where there are any, are wanted.
    """
    try:
        stored = read_npz(arrays, _UNUSED if embeddings else _UNUSED | _EMBEDDINGS)
        regions = _regions(stored)
        captions = stored["caption_embeddings"]
        _check_finite(captions, regions.boxes, regions.topk_probs, regions.residual, regions.embeddings)
        said = json.loads(bytes(meta))
        sided = any(_SIDED.search(c) for c in said["captions"])
        scores = said.get("image_text_scores")
        if scores is not None and len(scores := np.asarray(scores, np.float32)) != len(captions):
            raise ValueError(f"{len(scores)} image-text scores of {len(captions)} captions")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as e:
        raise BadSample("bad_arrays", f"{key}: {type(e).__name__}: {e}") from e
    return Sample(key, image, regions, captions, sided, scores)


def with_concept_ids(sample: Sample, ids: np.ndarray) -> Sample:
    """The sample with its concepts named by other ids: int64 [C], new by old. Raises BadSample for an id beyond them."""
    old = sample.regions.topk_ids
    if old.size and int(old.max()) >= len(ids):
        raise BadSample("bad_arrays", f"{sample.key}: concept {int(old.max())} of {len(ids)}")
    return replace(sample, regions=replace(sample.regions, topk_ids=ids[old.astype(np.int64)]))


def _regions(stored: dict[str, np.ndarray]) -> Regions:
    boxes, embeddings = stored["boxes_xyxy_norm"], region_embeddings(stored)
    regions = Regions(
        boxes, stored["topk_ids"], stored["topk_probs"], stored["residual"], is_pair(stored), embeddings
    )
    lengths = {len(getattr(regions, f.name)) for f in fields(regions)}
    if len(lengths) > 1:
        raise ValueError(f"regions of unequal number: {sorted(lengths)}")
    if boxes.shape[1:] != (4,) or regions.topk_ids.shape != regions.topk_probs.shape or embeddings.ndim != 2:
        raise ValueError(f"boxes {boxes.shape}, top k {regions.topk_ids.shape}, {regions.topk_probs.shape}")
    return regions


def _check_finite(*arrays: np.ndarray) -> None:
    """Raises ValueError for NaN or infinity."""
    for values in arrays:
        # Halves by their exponent's bits, since NumPy's isfinite converts each of them first.
        half = values.dtype == np.float16
        finite = (values.view(np.uint16) & 0x7C00) != 0x7C00 if half else np.isfinite(values)
        if not finite.all():
            raise ValueError("NaN or infinity")


def draw_view(sample: Sample, settings: ViewSettings, rng: np.random.Generator) -> View:
    """Draws one view: a caption (parity 7), a mirroring (parity 39) and at most max_regions regions (parity
    12).

    The stored labels belong to the image as it was stored. `mirror` keeps them for the mirrored image, which
    assumes that the teacher does not care (parity 23; docs/measurements/training.md says how much it does); `unsided` does
    not mirror where a caption names left or right.
    """
    u_flip, u_caption = rng.random(2)
    regions = sample.regions
    rows = None
    if len(regions) > settings.max_regions:
        rows = np.sort(rng.permutation(len(regions))[: settings.max_regions])
    if settings.drop_unkept:
        rows = np.flatnonzero(regions.kept) if rows is None else rows[regions.kept[rows]]
    if rows is not None:
        regions = regions.take(rows)
    allowed = settings.flip == "mirror" or (settings.flip == "unsided" and not sample.sided)
    mirrored = bool(allowed and u_flip < settings.flip_share)
    if mirrored:
        boxes = regions.boxes.take([2, 1, 0, 3], axis=1)
        boxes[:, ::2] = 1 - boxes[:, ::2]
        regions = replace(regions, boxes=boxes)
    n_captions, dim = sample.captions.shape
    chosen = _best_caption(sample) if settings.caption == "best" else int(u_caption * n_captions)
    caption = sample.captions[chosen] if n_captions else np.zeros(dim, np.float32)
    return View(sample.key, regions, caption, n_captions > 0, mirrored)


def _best_caption(sample: Sample) -> int:
    """The first of the captions that are most similar to the image; 0 for none. Raises ValueError without scores."""
    if sample.caption_scores is None:
        raise ValueError(
            f"view.caption: best needs image_text_scores, which sample {sample.key} lacks: build again"
        )
    return int(sample.caption_scores.argmax()) if len(sample.caption_scores) else 0
