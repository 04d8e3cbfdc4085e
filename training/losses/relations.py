"""Global and local logits with their relations (Kim et al., ICCV 2021), where regions are the local logits.

The paper splits a feature map into cells that give local logits beside the global ones, matches both by a KL
of normalised logits, and matches the L2 distances between global and local logits within and across images.
Here the regions of an image are its local logits, and its global logits are their mean: a linear classifier
on average-pooled features, as the paper starts from, is the mean of the classifier on the cells.
"""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, log_softmax


def normalised_logits(logits: torch.Tensor) -> torch.Tensor:
    """Each row of [R, C] with mean 0 and standard deviation 1 over its classes: the KL compares shapes, not scales."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)


def image_means(rows: torch.Tensor, image_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean row of each image that has any: [M, C], and for each of the R rows its place among the M: int64 [R]."""
    _, place, counts = torch.unique(image_index, return_inverse=True, return_counts=True)
    sums = rows.new_zeros(len(counts), rows.shape[1]).index_add(0, place, rows)
    return sums / counts[:, None], place


def normalised_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(softmax(teacher) || softmax(student)) of normalised logits, each [R, C] -> [R]."""
    log_p, log_q = log_softmax(student, dim=1), log_softmax(teacher, dim=1)
    return kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)


def relation_loss(
    student_global: torch.Tensor,
    student_local: torch.Tensor,
    teacher_global: torch.Tensor,
    teacher_local: torch.Tensor,
    place: torch.Tensor,
) -> torch.Tensor:
    """The mean squared difference of student's and teacher's distances between global and local logits.
    Scalar.

    [M, C], [R, C], the same of the teacher, all normalised; place: int64 [R], whose image each local row is
    of. A distance is ||g - l||_2 / sqrt(C), in [0, 2]. Pairs within an image and pairs across images (global
    to local and global to global) count half each. M x (R + M) distances: linear in the number of regions. 0, with a
    gradient, without any region.
    """
    scale = student_global.shape[1] ** -0.5
    student = torch.cdist(student_global, torch.cat([student_local, student_global])) * scale
    teacher = torch.cdist(teacher_global, torch.cat([teacher_local, teacher_global])) * scale
    squared = (student - teacher).square()
    own = torch.arange(len(student_global), device=place.device)[:, None]
    within = torch.cat([own == place[None, :], own == own.T], dim=1)
    counted = torch.cat(
        [torch.ones_like(within[:, : len(place)]), own != own.T], dim=1
    )  # no global with itself
    terms = [squared[mask].mean() for mask in (within & counted, ~within & counted) if bool(mask.any())]
    return torch.stack(terms).mean() if terms else squared.sum()


def global_local(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, image_index: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Local KL [R], global KL [M] and the relation loss (scalar), from region logits [R, C] of both."""
    student_means, place = image_means(student_logits, image_index)
    teacher_means, _ = image_means(teacher_logits, image_index)
    local = normalised_logits(student_logits), normalised_logits(teacher_logits)
    whole = normalised_logits(student_means), normalised_logits(teacher_means)
    return {
        "local": normalised_kl(*local),
        "global": normalised_kl(*whole),
        "relation": relation_loss(whole[0], local[0], whole[1], local[1], place),
    }
