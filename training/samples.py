"""A stored sample -> arrays -> one view of it. Pure functions; randomness comes in as a generator."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from pipeline import images
from pipeline.images import BadSample
from training.arrays import read_npz
from training.settings import ViewSettings

_UNUSED = frozenset({"objectness"})
_EMBEDDINGS = frozenset({"region_embeddings", "region_scales"})
_SIDED = re.compile(r"\b(left|right)", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """An image and its stored targets; docs/format.md says what each means.

    image: uint8 [H, W, 3] RGB, resized, upright. boxes: float32 [R, 4], xyxy in [0, 1]. topk_ids: int64 [R, k].
    topk_probs: float32 [R, k]. residual: float32 [R]. kept: bool [R]. captions: float32 [T, D], unit rows.
    embeddings: float32 [R, D] teacher embeddings, or [R, 0] where the dataset stores none. sided: a caption names
    left or right.
    """

    key: str
    image: np.ndarray
    boxes: np.ndarray
    topk_ids: np.ndarray
    topk_probs: np.ndarray
    residual: np.ndarray
    kept: np.ndarray
    captions: np.ndarray
    embeddings: np.ndarray
    sided: bool


def target_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width after scaling the shorter side to short_side, or the longer to long_side if that is less."""
    if short_side == 0:
        return height, width
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def parse(
    key: str, image: bytes, meta: bytes, arrays: bytes, view: ViewSettings, embeddings: bool = True
) -> Sample:
    """Decodes the three members of a sample. Raises BadSample for an image or arrays that cannot be used.

    embeddings: whether the teacher's region embeddings, where there are any, are wanted.
    """
    skip = _UNUSED if embeddings else _UNUSED | _EMBEDDINGS
    smallest = view.short_side if view.decode == "fast" else 0
    pixels, _ = images.decode(image, min_short_side=smallest)
    try:
        sample = _from_arrays(key, pixels, read_npz(arrays, skip))
        captions = json.loads(meta)["captions"]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise BadSample("bad_arrays", f"{key}: {e}") from e
    height, width = target_size(pixels.shape[0], pixels.shape[1], view.short_side, view.long_side)
    if (height, width) != pixels.shape[:2]:
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        sample = replace(sample, image=np.asarray(resized))
    return replace(sample, sided=any(_SIDED.search(c) for c in captions))


def _from_arrays(key: str, pixels: np.ndarray, stored: dict[str, np.ndarray]) -> Sample:
    boxes = stored["boxes_xyxy_norm"].astype(np.float32)
    embeddings = np.zeros((len(boxes), 0), np.float32)
    if "region_embeddings" in stored:
        embeddings = stored["region_embeddings"].astype(np.float32)
        if "region_scales" in stored:
            embeddings = embeddings * stored["region_scales"][:, None]
    sample = Sample(
        key,
        pixels,
        boxes,
        stored["topk_ids"].astype(np.int64),
        stored["topk_probs"].astype(np.float32),
        stored["residual"].astype(np.float32),
        stored["kept"].astype(bool),
        stored["caption_embeddings"].astype(np.float32),
        embeddings,
        False,
    )
    lengths = {
        len(a) for a in (boxes, sample.topk_ids, sample.topk_probs, sample.residual, sample.kept, embeddings)
    }
    if len(lengths) > 1:
        raise ValueError(f"regions of unequal number: {sorted(lengths)}")
    finite = (boxes, sample.topk_probs, sample.residual, sample.captions, embeddings)
    if not all(np.isfinite(a).all() for a in finite):
        raise ValueError("NaN or infinity")
    return sample


@dataclass(frozen=True)
class View:
    """What one step sees of a sample: boxes float32 [r, 4] in [0, 1] of `image`; the rest as in Sample, r <=
    R rows.

    caption: float32 [D], one of the sample's captions, or zeros with has_caption False. mirrored: the boxes are, and
    the image has to be (`collate` does it where the copy is made anyway).
    """

    key: str
    image: np.ndarray
    boxes: np.ndarray
    topk_ids: np.ndarray
    topk_probs: np.ndarray
    residual: np.ndarray
    kept: np.ndarray
    embeddings: np.ndarray
    caption: np.ndarray
    has_caption: bool
    mirrored: bool


def draw_view(sample: Sample, settings: ViewSettings, rng: np.random.Generator) -> View:
    """Draws one view: a caption (parity 7), a mirroring (parity 39) and at most max_regions regions (parity
    12).

    The stored labels belong to the image as it was stored. `mirror` keeps them for the mirrored image, which
    assumes that the teacher does not care (parity 23; docs/training.md says how much it does); `unsided` does
    not mirror where a caption names left or right.
    """
    u_flip, u_caption = rng.random(2)
    n_regions = len(sample.boxes)
    chosen = np.arange(n_regions)
    if n_regions > settings.max_regions:
        chosen = np.sort(rng.permutation(n_regions)[: settings.max_regions])
    if settings.drop_unkept:
        chosen = chosen[sample.kept[chosen]]
    allowed = settings.flip == "mirror" or (settings.flip == "unsided" and not sample.sided)
    mirrored = bool(allowed and u_flip < settings.flip_share)
    boxes = sample.boxes[chosen]
    if mirrored:
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    n_captions, dim = sample.captions.shape
    caption = sample.captions[int(u_caption * n_captions)] if n_captions else np.zeros(dim, np.float32)
    return View(
        sample.key,
        sample.image,
        boxes,
        sample.topk_ids[chosen],
        sample.topk_probs[chosen],
        sample.residual[chosen],
        sample.kept[chosen],
        sample.embeddings[chosen],
        caption,
        n_captions > 0,
        mirrored,
    )
