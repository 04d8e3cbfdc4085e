"""Zero-shot classification of regions: pure functions on embeddings and scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F


def class_scores(
    regions: torch.Tensor, concepts: torch.Tensor, tau: float, background: bool = True
) -> np.ndarray:
    """Probabilities float32 [R, C] of regions [R, D] over concepts [C, D]; neither needs to be normalised.

    Softmax of cosine / tau. With `background` one more class competes, a zero embedding whose logit is 0, and its
    column is dropped afterwards, so that rows sum to less than 1 (RegionCLIP's evaluation).
    """
    logits = F.normalize(regions.float(), dim=1) @ F.normalize(concepts.float(), dim=1).T / tau
    if background:
        logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)
    return logits.softmax(dim=1)[:, : len(concepts)].numpy()


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes score higher than each row's label, int [R]; a tie counts as higher, so nothing gains by it."""
    own = scores[np.arange(len(labels)), labels][:, None]
    return (scores >= own).sum(1) - 1


def accuracy(scores: np.ndarray, labels: np.ndarray, topk: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Top-k accuracy over regions, and its mean over the classes that occur (CLIPSelf's mean class accuracy).

    scores: [R, C]; labels: int [R]. NaN where there are no regions.
    """
    if len(labels) == 0:
        return {f"{name}{k}": float("nan") for k in topk for name in ("top", "mean_class_top")}
    place = ranks(scores, labels)
    result = {}
    for k in topk:
        right = place < k
        result[f"top{k}"] = float(right.mean())
        per_class = [right[labels == c].mean() for c in np.unique(labels)]
        result[f"mean_class_top{k}"] = float(np.mean(per_class))
    return result


def accuracy_by_split(
    scores: np.ndarray, labels: np.ndarray, novel: np.ndarray, topk: Sequence[int] = (1, 5)
) -> dict[str, dict[str, float]]:
    """`accuracy` of the regions of base, novel and all classes; every class competes throughout.

    novel: bool [C].
    """
    is_novel = novel[labels] if len(labels) else np.zeros(0, bool)
    return {
        "all": accuracy(scores, labels, topk),
        "base": accuracy(scores[~is_novel], labels[~is_novel], topk),
        "novel": accuracy(scores[is_novel], labels[is_novel], topk),
    }


def retrieval(
    images: torch.Tensor, texts: torch.Tensor, image_of_text: np.ndarray, topk: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at k of image-text retrieval by cosine, both ways.

    images: [N, D]; texts: [T, D]; image_of_text: int [T]. text_to_image: the text's image is among the k nearest.
    image_to_text: any of the image's texts is. Images without a text are left out of the queries.
    """
    similarity = (F.normalize(images.float(), dim=1) @ F.normalize(texts.float(), dim=1).T).numpy()
    to_image = ranks(similarity.T, image_of_text)
    owns = image_of_text[None] == np.arange(len(images))[:, None]
    queries = owns.any(1)
    best_own = np.where(owns, similarity, -np.inf).max(1)
    above = ((similarity >= best_own[:, None]) & ~owns).sum(1)[queries]
    result = {f"text_to_image_r{k}": float((to_image < k).mean()) for k in topk}
    return result | {f"image_to_text_r{k}": float((above < k).mean()) for k in topk}


def scene_accuracy(scores: np.ndarray, present: np.ndarray) -> dict[str, float]:
    """Whole images against what they show. scores: [N, C]; present: bool [N, C].

    top1: the best-scored class is there. precision_at_n: of the n best, n the number of classes there, the share that is.
    """
    rows = present.any(1)
    scores, present = scores[rows], present[rows]
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(present, order, 1)
    n = present.sum(1)
    top = [hit[:k].mean() for hit, k in zip(hits, n, strict=True)]
    return {"top1": float(hits[:, 0].mean()), "precision_at_n": float(np.mean(top))}
