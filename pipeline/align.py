"""Regions x concepts -> teacher distributions, labels, kept pairs. Pure: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class AlignSettings:
    """How regions are matched to concepts.

    Attributes:
        policy: pool (every concept competes) | caption (only those the image's captions name) | blend (a bonus for them)
        tau: temperature of the softmax over cosines
        threshold: a region is kept if its best probability is above this (strictly)
        blend_bonus: logits added to the concepts that the image's captions name (policy: blend)
        top_k: concepts and probabilities stored a region; the rest is stored as one residual mass
        region_embeddings: none | fp16 | int8 (stored beside the labels, so that a dataset can be relabelled)
    """

    policy: str = "blend"
    tau: float = 0.01
    threshold: float = 0.1
    blend_bonus: float = 3.0
    top_k: int = 16
    region_embeddings: str = "none"


@dataclass(frozen=True)
class Alignment:
    """Labels of the R regions of one image; k = min(top_k, C).

    topk_ids: int32 [R, k], concept ids by falling probability, ties by rising id; column 0 is the label.
    topk_probs: float32 [R, k].
    residual: float32 [R], 1 - sum(topk_probs), never negative.
    kept: bool [R], topk_probs[:, 0] > threshold.
    """

    topk_ids: np.ndarray
    topk_probs: np.ndarray
    residual: np.ndarray
    kept: np.ndarray


def align(
    regions: torch.Tensor, concepts: torch.Tensor, mentioned: list[int], settings: AlignSettings
) -> Alignment:
    """Softmax of cosine / tau over the pool (RegionCLIP, CVPR 2022, eq. 3), under a label policy.

    regions: float32 [R, D]; concepts: float32 [C, D]; neither needs to be normalised.
    mentioned: ids of the concepts that the image's own captions name. Under policy `caption` an image that mentions
    none keeps no region.
    """
    logits = torch.nn.functional.normalize(regions, dim=1) @ torch.nn.functional.normalize(concepts, dim=1).T
    logits = logits / settings.tau
    named = torch.zeros(len(concepts), dtype=torch.bool)
    named[mentioned] = True
    if settings.policy == "blend":
        logits = logits + settings.blend_bonus * named
    elif settings.policy == "caption" and named.any():
        logits = logits.masked_fill(~named, float("-inf"))
    probs = logits.softmax(dim=1)
    # A stable sort makes ties fall to the lower id on every device.
    ordered, ids = probs.sort(dim=1, descending=True, stable=True)
    k = min(settings.top_k, len(concepts))
    top = ordered[:, :k].numpy()
    kept = top[:, 0] > settings.threshold if k else np.zeros(len(top), bool)
    if settings.policy == "caption" and not named.any():
        kept = np.zeros_like(kept)
    return Alignment(
        topk_ids=ids[:, :k].to(torch.int32).numpy(),
        topk_probs=top,
        residual=np.clip(1.0 - top.sum(axis=1), 0.0, 1.0).astype(np.float32),
        kept=kept,
    )
