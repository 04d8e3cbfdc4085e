"""Regions x concepts -> teacher distributions, labels, kept pairs. Pure: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.devices import to_device
from pipeline.ranking import top_of
from pipeline.scores import KEPT, keep_reasons, objectness_of, pair_scores, rules_of
from pipeline.settings import AlignSettings

if TYPE_CHECKING:
    from pipeline.corpus.classifier import Classifier


#: Logits that are worked on at once: what a processor's cache holds, and where a GPU is no longer waiting for orders.
CELLS, GPU_CELLS = 1 << 18, 1 << 24


@dataclass(frozen=True)
class Alignment:
    """Labels of the R regions of one image; k = min(top_k, C).

    topk_ids: int32 [R, k], concept ids by falling probability, ties by rising id; column 0 is the label.
    topk_probs: float32 [R, k].
    residual: float32 [R], 1 - sum(topk_probs), never negative.
    scores: float32 [R], what the label is ranked by (`align.score`).
    reasons: uint8 [R], 0 where region and label are a pair, else why not (pipeline/scores.py).
    margin: float32 [R], the label's probability less the runner-up's (also where k = 1).
    background: float32 [R], the probability that there is no object, or None where the policy has no such class. Then
    `topk_probs` are given that there is one.
    """

    topk_ids: np.ndarray
    topk_probs: np.ndarray
    residual: np.ndarray
    scores: np.ndarray
    reasons: np.ndarray
    margin: np.ndarray
    background: np.ndarray | None = None

    @property
    def kept(self) -> np.ndarray:
        """bool [R], the pairs."""
        return self.reasons == KEPT


@dataclass(frozen=True)
class Image:
    """What is known of an image beside its regions' embeddings; what no setting asks for may be left out.

    mentioned: ids of the concepts that its own captions name. boxes_xyxy_norm: float32 [R, 4] (pair_nms_iou, region rules).
    objectness: float32 [R], raw (score: objectness, policy: corpus). size: width and height in pixels (region rules).
    """

    mentioned: Sequence[int] = ()
    boxes_xyxy_norm: np.ndarray | None = None
    objectness: np.ndarray | None = None
    size: tuple[int, int] | None = None

    @staticmethod
    def of_stored(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Image:
        """From the members of a stored sample (docs/format.md)."""
        size = (int(meta["width"]), int(meta["height"]))
        return Image(meta["mentioned"], arrays["boxes_xyxy_norm"], arrays["objectness"], size)


class Aligner:
    """A pool ready to be matched with many images: its embeddings are normalised and moved to the device once.

    concepts: float32 [C, D], need not be normalised. classifier: policy `corpus` needs it.
    """

    def __init__(
        self,
        concepts: torch.Tensor,
        settings: AlignSettings,
        device: str = "cpu",
        classifier: Classifier | None = None,
        damping: float = 0.0,
    ):
        self.settings = settings
        self._concepts = F.normalize(concepts.to(device, torch.float32), dim=1)
        self._classifier, self._damping = classifier, damping
        self._rules = rules_of(settings)
        if settings.policy == "corpus" and classifier is None:
            raise ValueError(
                "align.policy: corpus labels come from a fit to a whole dataset (jobs/refine_labels.py)"
            )

    def __call__(self, regions: Sequence[torch.Tensor], images: Sequence[Image]) -> list[Alignment]:
        """One `Alignment` an image. regions: float [R, D] of each. Raises ValueError if something needed is left out.

        What an image gets does not depend on the images beside it (by policy `corpus`: up to rounding).
        """
        found: list[Alignment] = []
        cells = CELLS if self._concepts.device.type == "cpu" else GPU_CELLS
        for some in _together([len(r) for r in regions], len(self._concepts), cells):
            found += self._aligned(regions[some], images[some])
        return found

    def _aligned(self, regions: Sequence[torch.Tensor], images: Sequence[Image]) -> list[Alignment]:
        counts = [len(r) for r in regions]
        together = torch.cat(list(regions)) if len(regions) > 1 else regions[0]
        unit = F.normalize(to_device(together.to(torch.float32), self._concepts.device), dim=1)
        k = max(2, self.settings.top_k)
        background: np.ndarray | None = None
        if self.settings.policy == "corpus":
            ids, probs, background = self._classified(unit, images, counts, k)
        else:
            ids, probs = top_of(self._logits(unit, images, counts).softmax(dim=1), k)
        return self._alignments(ids.cpu().numpy(), probs.cpu().numpy(), images, counts, background)

    def _logits(self, unit: torch.Tensor, images: Sequence[Image], counts: list[int]) -> torch.Tensor:
        """float32 [R, C]: cosine / tau, and what the label policy adds for the image of each region.

        A product an image: a row of a product of another height may differ in its last bits.
        """
        logits = unit.new_empty(len(unit), len(self._concepts))
        for block, rows in zip(logits.split(counts), unit.split(counts), strict=True):
            torch.mm(rows, self._concepts.T, out=block)
        logits /= self.settings.tau
        if self.settings.policy != "pool":
            added = np.repeat([self._added(image) for image in images], counts, axis=0)
            logits += to_device(added, logits.device)
        return logits

    def _added(self, image: Image) -> np.ndarray:
        """float32 [C], what the label policy adds to the logits of an image's regions."""
        ids = list(image.mentioned)
        row = np.zeros(len(self._concepts), np.float32)
        if self.settings.policy == "blend":
            row[ids] = self.settings.blend_bonus
        elif ids:
            row.fill(-np.inf)
            row[ids] = 0.0
        return row

    def _classified(
        self, regions: torch.Tensor, images: Sequence[Image], counts: list[int], k: int
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Labels by the fitted classifier: ids and probabilities [R, k], and the background [R]."""
        from pipeline.corpus.labels import label

        assert self._classifier is not None
        objectness = np.concatenate(
            [_needed(i.objectness, "align.policy corpus", "objectness") for i in images]
        )
        mentioned = [image.mentioned for image in images]
        found = label(
            self._classifier, regions.cpu().numpy(), objectness, mentioned, counts, self._damping, k
        )
        return torch.from_numpy(found.ids), torch.from_numpy(found.probabilities), found.background

    def _alignments(
        self,
        ids: np.ndarray,
        probs: np.ndarray,
        images: Sequence[Image],
        counts: list[int],
        background: np.ndarray | None,
    ) -> list[Alignment]:
        """From the top max(2, k) of every region to what is stored of each image's."""
        first = probs[:, 0] if probs.shape[1] else np.zeros(len(probs), np.float32)
        margin = (first - (probs[:, 1] if probs.shape[1] > 1 else 0.0)).astype(np.float32)
        labels = ids[:, 0] if ids.shape[1] else np.zeros(len(ids), int)
        top, top_ids = probs[:, : self.settings.top_k], ids[:, : self.settings.top_k].astype(np.int32)
        residual = np.clip(1.0 - top.sum(axis=1), 0.0, 1.0).astype(np.float32)
        scores = self._scores(first, images, background)
        found, start = [], 0
        for image, n in zip(images, counts, strict=True):
            own = slice(start, start := start + n)
            found.append(
                Alignment(
                    topk_ids=top_ids[own],
                    topk_probs=top[own],
                    residual=residual[own],
                    scores=scores[own],
                    reasons=self._reasons(scores[own], labels[own], image),
                    margin=margin[own],
                    background=None if background is None else background[own],
                )
            )
        return found

    def _scores(
        self, first: np.ndarray, images: Sequence[Image], background: np.ndarray | None
    ) -> np.ndarray:
        s = self.settings
        if s.score == "probability":
            return first.astype(np.float32)
        objectness = np.concatenate([_needed(i.objectness, "align.score", "objectness") for i in images])
        return pair_scores(first, objectness, s.score, objectness_of(s), s.objectness_weight, background)

    def _reasons(self, scores: np.ndarray, labels: np.ndarray, image: Image) -> np.ndarray:
        s, rules = self.settings, self._rules
        by_rules = None
        if rules.any:
            size = _needed(image.size, "align.min_side_px, area or aspect", "size of the image")
            by_rules = rules.reasons(_needed(image.boxes_xyxy_norm, "region rules", "boxes"), *size)
        boxes = image.boxes_xyxy_norm
        if s.pair_nms_iou > 0:
            boxes = _needed(boxes, "align.pair_nms_iou", "boxes")
        silent = s.policy == "caption" and not len(image.mentioned)
        return keep_reasons(scores, labels, boxes, s.threshold, by_rules, s.pair_nms_iou, silent)


def _together(counts: Sequence[int], n_concepts: int, most: int) -> Iterator[slice]:
    """Neighbouring images that are aligned at once: so many that the table of their logits has at most so many cells."""
    start = cells = 0
    for i, n in enumerate(counts):
        if i > start and cells + n * n_concepts > most:
            yield slice(start, i)
            start, cells = i, 0
        cells += n * n_concepts
    if counts:
        yield slice(start, len(counts))


def _needed(value: Any, key: str, what: str) -> Any:
    if value is None:
        raise ValueError(f"{key} needs the {what}")
    return value


def align(
    regions: torch.Tensor,
    concepts: torch.Tensor,
    mentioned: list[int],
    settings: AlignSettings,
    boxes_xyxy_norm: np.ndarray | None = None,
    objectness: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
) -> Alignment:
    """Softmax of cosine / tau over the pool (RegionCLIP, CVPR 2022, eq. 3), under a label policy.

    regions: float32 [R, D]; concepts: float32 [C, D]; neither needs to be normalised. The rest: `Image`. Under policy
    `caption` an image that mentions no concept keeps no region. For many images with one pool, `Aligner` does the pool's
    share once.
    """
    image = Image(mentioned, boxes_xyxy_norm, objectness, size)
    return Aligner(concepts, settings)([regions], [image])[0]
