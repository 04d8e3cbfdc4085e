"""The three pretraining losses of RegionCLIP (Zhong et al., CVPR 2022), as pure functions on tensors.

Notation: s_i is the L2-normalised student embedding of region i, e_c the L2-normalised text embedding of
concept c, tau the temperature (0.01 in the paper). Every function normalises its inputs itself (parity 25),
computes in float32 whatever it is given, and returns one value a row, so that the caller decides over what to
average (`mean_over_ranks`).
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, log_softmax, normalize


def concept_logits(features: torch.Tensor, concepts: torch.Tensor, tau: float) -> torch.Tensor:
    """s_i . e_c / tau for features [R, D] and concepts [C, D], neither normalised -> float32 [R, C]."""
    with torch.autocast(features.device.type, enabled=False):
        return normalize(features.float(), dim=1) @ normalize(concepts.float(), dim=1).T / tau


def region_contrastive(logits: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """L_cntrst of each region: which of the batch's concepts is this region's? Float32 [R].

    logits: [R, C], `concept_logits`; labels: int64 [R]; counts: [C], how often each concept is a candidate,
    >= 1 for every label that occurs.

    RegionCLIP eq. 2 with positives summed, -log(sum over j with y_j = y_i of softmax_j(s_i . e_{y_j} / tau)),
    j over the kept regions of the rank. Equal labels give equal terms, so with n_c the number of kept regions
    that are labelled c it is -log(n_y exp(s.e_y/tau) / sum_c n_c exp(s.e_c/tau)): a softmax over unique
    concepts whose logits are raised by log n_c. That is computed here: no R x R matrix, and `counts` says
    which variant it is: n_c of this rank (the paper), n_c summed over all ranks, or 1 for every concept that
    occurs anywhere (each concept once, without the bias to frequent ones).
    """
    present = counts > 0
    column = torch.cumsum(present.long(), dim=0) - 1  # class id -> its column among the present concepts
    weighted = logits[:, present] + counts[present].to(logits.dtype).log()
    return cross_entropy(weighted, column[labels], reduction="none")


def distillation(
    logits: torch.Tensor, topk_ids: torch.Tensor, topk_probs: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    """L_dist of each region from stored targets: KL(q || p) over the teacher's top k and one bucket for the
    rest.

    logits: student's, float32 [R, C]; topk_ids: int64 [R, k]; topk_probs: [R, k]; residual: [R]. Returns
    float32 [R].

    RegionCLIP eq. 4 is the dense KL(q || p) over all C concepts, p = softmax(s.e/tau), no T^2 factor. Here
    the C - k concepts that were not stored form one bucket with the teacher's mass r and the student's p_rest
    = 1 - sum p_topk (by logsumexp over the rest: no cancellation, no underflow). This is a lower bound of the
    dense value. Proof: split the dense sum into stored and other concepts. The stored terms are equal. For
    the others the log-sum inequality, sum_j a_j log(a_j / b_j) >= (sum_j a_j) log(sum_j a_j / sum_j b_j),
    with a_j = q_j and b_j = p_j gives sum_rest q_j log(q_j / p_j) >= r log(r / p_rest), with equality iff q_j
    / p_j is constant over the rest. Hence bucket KL <= dense KL, both are >= 0, and the gap is r KL(q_rest /
    r || p_rest / p_rest's sum): it is at most proportional to the mass that was not stored. With k = C the
    two agree.

    Stored fp16 masses need not sum to 1: r is clamped at 0 and the k + 1 masses are normalised.
    """
    log_p = log_softmax(logits.float(), dim=1)
    q = topk_probs.float()
    log_p_stored = log_p.gather(1, topk_ids)
    if topk_ids.shape[1] < logits.shape[1]:
        rest = log_p.scatter(1, topk_ids, float("-inf")).logsumexp(dim=1, keepdim=True)
        log_p_stored = torch.cat([log_p_stored, rest], dim=1)
        q = torch.cat([q, residual.float().clamp(min=0)[:, None]], dim=1)
    q = q / q.sum(dim=1, keepdim=True)
    return (torch.xlogy(q, q) - q * log_p_stored).sum(dim=1)


def dense_distillation(logits: torch.Tensor, teacher_probs: torch.Tensor) -> torch.Tensor:
    """The dense KL(q || p) of each region; both [R, C] -> float32 [R]. For full targets, and to measure the gap."""
    q = teacher_probs.float()
    return (torch.xlogy(q, q) - q * log_softmax(logits.float(), dim=1)).sum(dim=1)


def image_text(images: torch.Tensor, captions: torch.Tensor, tau: float) -> torch.Tensor:
    """L_cntrst-img: symmetric InfoNCE of N images and their captions, both [N, D] (CLIP; RegionCLIP sec.
    3.3). Scalar.

    (CE over rows + CE over columns) / 2 of the matrix image_i . caption_j / tau; the pair of row i is column
    i. Give it the gathered global batch (`distributed.gather_with_gradient`).
    """
    logits = concept_logits(images, captions, tau)
    target = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
