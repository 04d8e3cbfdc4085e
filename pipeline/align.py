"""Regions x concepts -> teacher distributions, labels, kept pairs. Pure: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from pipeline.settings import AlignSettings


@dataclass(frozen=True)
class Alignment:
    """Labels of the R regions of one image; k = min(top_k, C).

    topk_ids: int32 [R, k], concept ids by falling probability, ties by rising id; column 0 is the label.
    topk_probs: float32 [R, k].
    residual: float32 [R], 1 - sum(topk_probs), never negative.
    kept: bool [R], topk_probs[:, 0] > threshold, less the duplicates that `pair_nms_iou` removes.
    margin: float32 [R], the label's probability less the runner-up's (also where k = 1).
    """

    topk_ids: np.ndarray
    topk_probs: np.ndarray
    residual: np.ndarray
    kept: np.ndarray
    margin: np.ndarray


class Aligner:
    """A pool ready to be matched with many images: its embeddings are normalised and moved to the device once.

    concepts: float32 [C, D], need not be normalised.
    """

    def __init__(self, concepts: torch.Tensor, settings: AlignSettings, device: str = "cpu"):
        self.settings = settings
        self._concepts = F.normalize(concepts.to(device, torch.float32), dim=1)

    def __call__(
        self,
        regions: Sequence[torch.Tensor],
        mentioned: Sequence[list[int]],
        boxes_xyxy_norm: Sequence[np.ndarray] | None = None,
    ) -> list[Alignment]:
        """One `Alignment` an image. `boxes_xyxy_norm` is needed (and read) only with `pair_nms_iou`."""
        if not regions:
            return []
        counts = [len(r) for r in regions]
        together = torch.cat([r.to(self._concepts.device, torch.float32) for r in regions])
        logits = F.normalize(together, dim=1) @ self._concepts.T / self.settings.tau
        logits = logits + self._policy(mentioned, logits.shape[1]).repeat_interleave(
            torch.tensor(counts, device=logits.device), dim=0
        )
        ids, probs = top_of(logits.softmax(dim=1), max(2, self.settings.top_k))
        out = []
        for index, (i, p) in enumerate(zip(ids.cpu().split(counts), probs.cpu().split(counts), strict=True)):
            boxes = boxes_xyxy_norm[index] if boxes_xyxy_norm is not None else None
            silent = self.settings.policy == "caption" and not mentioned[index]
            out.append(self._alignment(i.numpy(), p.numpy(), boxes, silent))
        return out

    def _policy(self, mentioned: Sequence[list[int]], n_concepts: int) -> torch.Tensor:
        """float32 [images, C], what the label policy adds to the logits of an image's regions."""
        device, policy = self._concepts.device, self.settings.policy
        added = torch.zeros(len(mentioned), n_concepts, device=device)
        for row, ids in zip(added, mentioned, strict=True):
            if policy == "blend":
                row[ids] = self.settings.blend_bonus
            elif policy == "caption" and ids:
                row.fill_(float("-inf"))[ids] = 0.0
        return added

    def _alignment(
        self, ids: np.ndarray, probs: np.ndarray, boxes: np.ndarray | None, silent: bool
    ) -> Alignment:
        """From the top max(2, k) of every region to what is stored of it. silent: the captions name no concept."""
        settings = self.settings
        kept = (
            probs[:, 0] > settings.threshold if probs.shape[1] and not silent else np.zeros(len(probs), bool)
        )
        if settings.pair_nms_iou > 0 and kept.any():
            if boxes is None:
                raise ValueError("align.pair_nms_iou needs the boxes")
            kept = without_duplicates(boxes, ids[:, 0], probs[:, 0], kept, settings.pair_nms_iou)
        runner_up = probs[:, 1] if probs.shape[1] > 1 else 0.0
        margin = probs[:, 0] - runner_up if probs.shape[1] else np.zeros(len(probs), np.float32)
        top = probs[:, : settings.top_k]
        return Alignment(
            topk_ids=ids[:, : settings.top_k].astype(np.int32),
            topk_probs=top,
            residual=np.clip(1.0 - top.sum(axis=1), 0.0, 1.0).astype(np.float32),
            kept=kept,
            margin=margin.astype(np.float32),
        )


def align(
    regions: torch.Tensor,
    concepts: torch.Tensor,
    mentioned: list[int],
    settings: AlignSettings,
    boxes_xyxy_norm: np.ndarray | None = None,
) -> Alignment:
    """Softmax of cosine / tau over the pool (RegionCLIP, CVPR 2022, eq. 3), under a label policy.

    regions: float32 [R, D]; concepts: float32 [C, D]; neither needs to be normalised.
    mentioned: ids of the concepts that the image's own captions name. Under policy `caption` an image that mentions
    none keeps no region. boxes_xyxy_norm: float32 [R, 4], needed only with `pair_nms_iou`.
    For many images with one pool, `Aligner` does the pool's share once.
    """
    boxes = None if boxes_xyxy_norm is None else [boxes_xyxy_norm]
    return Aligner(concepts, settings)([regions], [mentioned], boxes)[0]


def top_of(probs: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row [R, C], ties by rising id on every device: (int64 ids, float32 probabilities)."""
    columns = probs.shape[1]
    k = min(k, columns)
    # A non-negative float32 orders like its bits. With the id below them no two keys are equal, so topk has no choice.
    bits = probs.contiguous().view(torch.int32).to(torch.int64)
    keys = (bits << 32) + torch.arange(columns - 1, -1, -1, device=probs.device)
    ids = columns - 1 - (keys.topk(k, dim=1).values & 0xFFFFFFFF)
    return ids, probs.gather(1, ids)


def without_duplicates(
    boxes_xyxy_norm: np.ndarray, labels: np.ndarray, probs: np.ndarray, kept: np.ndarray, iou: float
) -> np.ndarray:
    """`kept` less every region that overlaps a more probable kept region of the same label by more than `iou`.

    Greedy, as NMS is, by falling probability; ties fall to the earlier region (the one with more objectness).
    """
    out = kept.copy()
    order = [r for r in np.argsort(-probs, kind="stable") if kept[r]]
    boxes = torch.from_numpy(np.ascontiguousarray(boxes_xyxy_norm[order], np.float32))
    overlaps = box_iou(boxes, boxes).numpy() > iou
    for i, region in enumerate(order):
        if out[region]:
            for j in np.flatnonzero(overlaps[i, i + 1 :]) + i + 1:
                if labels[order[j]] == labels[region]:
                    out[order[j]] = False
    return out
