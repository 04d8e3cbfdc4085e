"""Embeddings and stored targets -> the losses of a step, as the settings weigh them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.data.batch import Batch
from training.distributed import gather_with_gradient, mean_over_ranks, sum_over_ranks
from training.losses import terms
from training.losses.relations import global_local
from training.settings import LossSettings


@dataclass(frozen=True)
class Objective:
    """The weighted sum of the losses (parity 32). concepts: float32 [C, D]; tau: the student's temperature.

    Every collective is called by every rank in every step, whatever its batch holds: no branch that looks at data may
    have one in it, or a rank without a kept region would leave the others waiting.
    """

    concepts: torch.Tensor
    tau: float
    settings: LossSettings

    def __call__(self, outputs: tuple[torch.Tensor, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        """Region embeddings [R, D] and image embeddings [N, D] -> `total` (with gradient) and its parts,
        unweighted.

        Besides: `regions`, how many of this rank's are in the region losses, and `kept_all`, 1 where none was kept
        and all are in them.
        """
        regions, images = (x.float() for x in outputs)
        s = self.settings
        kept = kept_or_all(batch.kept, s.contrast if s.average == "global" else "rank")
        logits = terms.concept_logits(regions[kept], self.concepts, self.tau)
        parts: dict[str, torch.Tensor] = {}
        if s.contrast_weight:
            labels = batch.topk_ids[kept, 0]
            counts = candidate_counts(labels, len(self.concepts), s.contrast)
            parts["contrast"] = mean_over_ranks(terms.region_contrastive(logits, labels, counts), s.average)
        if s.distill_weight:
            parts |= self._distillation(logits, batch, kept)
        if s.image_weight:
            parts["image"] = self._image_text(images, batch)
        weights = {"contrast": s.contrast_weight, "image": s.image_weight, "relation": s.relation_weight}
        total = torch.stack(
            [weights.get(name, s.distill_weight) * part for name, part in parts.items()]
        ).sum()
        total = total + 0.0 * (regions.sum() + images.sum())  # every rank's backward reaches every parameter
        counted = {"regions": kept.sum().float(), "kept_all": (kept.sum() > batch.kept[kept].sum()).float()}
        return {"total": total, **parts, **counted}

    def _distillation(
        self, logits: torch.Tensor, batch: Batch, kept: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        s = self.settings
        if s.distill == "logits":
            stored = (batch.topk_ids[kept], batch.topk_probs[kept], batch.residual[kept])
            return {"distill": mean_over_ranks(terms.distillation(logits, *stored), s.average)}
        teacher = terms.concept_logits(stored_embeddings(batch)[kept], self.concepts, self.tau)
        parts = global_local(logits, teacher, batch.image_index[kept])
        local, whole = (mean_over_ranks(parts[name], s.average) for name in ("local", "global"))
        return {"local": local, "global": whole, "relation": parts["relation"]}

    def _image_text(self, images: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Over the images of all ranks that have a caption (parity 30); 0 where fewer than two have one."""
        has_caption = gather_with_gradient(batch.has_caption.float()) > 0
        images, captions = gather_with_gradient(images), gather_with_gradient(batch.captions)
        if int(has_caption.sum()) < 2:
            return images.sum() * 0.0
        return terms.image_text(images[has_caption], captions[has_caption], self.tau)


def kept_or_all(kept: torch.Tensor, scope: str) -> torch.Tensor:
    """The keep mask, or all regions where none is kept (parity 21): on this rank, or on any rank."""
    n_kept = kept.sum()
    if scope != "rank":
        n_kept = sum_over_ranks(n_kept)
    return kept if int(n_kept) > 0 else torch.ones_like(kept)


def candidate_counts(labels: torch.Tensor, n_concepts: int, contrast: str) -> torch.Tensor:
    """How often each concept is a candidate of the contrastive loss, float32 [C]: `terms.region_contrastive`."""
    counts = torch.bincount(labels, minlength=n_concepts).float()
    if contrast != "rank":
        counts = sum_over_ranks(counts)
    return (counts > 0).float() if contrast == "unique" else counts


def stored_embeddings(batch: Batch) -> torch.Tensor:
    """The teacher's region embeddings [R, D]. Raises ValueError if the dataset stores none."""
    if batch.embeddings.shape[1] == 0:
        raise ValueError(
            "loss.distill: this kind needs the teacher's embeddings: build the dataset with align.region_embeddings fp16"
        )
    return batch.embeddings
