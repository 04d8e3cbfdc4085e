"""Optimisers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.settings import OptimizerSettings


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimiser of a model's trainable parameters. AdamW leaves biases and norms undecayed; SGD decays all.

    Fused: a step reads and writes each number once.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("student.freeze: every parameter is frozen")
    if settings.kind == "sgd":
        decay = settings.weight_decay
        return torch.optim.SGD(trained, lr=settings.lr, momentum=0.9, weight_decay=decay, fused=True)
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def lr_factor(step: int, n_steps: int, settings: OptimizerSettings) -> float:
    """The share of the peak learning rate at step 0, 1, ...: linear warm-up, times the schedule.

    `steps` falls to a tenth at each milestone (parity 35); `cosine` goes from 1 after warm-up to 0 at
    n_steps.
    """
    warmup = settings.warmup_steps
    factor = 1.0
    if step < warmup:
        factor = settings.warmup_from + (1 - settings.warmup_from) * step / warmup
    if settings.schedule == "steps":
        return factor * 0.1 ** sum(step >= m for m in settings.milestones)
    if settings.schedule == "cosine" and step >= warmup:
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, n_steps - warmup))))
    return factor


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip_gradients(model: nn.Module, settings: OptimizerSettings) -> torch.Tensor:
    """Scales gradients down to norm `clip`: all together, or each parameter's own (parity 37); 0: not at all.

    Returns the norm of all gradients before, a scalar on their device; nothing waits for the device here.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = torch._foreach_norm(gradients)
    total = torch.linalg.vector_norm(torch.stack(norms))
    if settings.clip and settings.clip_by == "global":
        torch._foreach_mul_(gradients, (settings.clip / (total + 1e-6)).clamp(max=1.0))
    elif settings.clip:
        for gradient, norm in zip(gradients, norms, strict=True):
            gradient.mul_((settings.clip / (norm + 1e-6)).clamp(max=1.0))
    return total
