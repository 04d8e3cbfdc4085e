"""Which torch device a setting means on the machine that reads it."""

from __future__ import annotations

import torch


def resolve_device(device: str) -> str:
    """`auto` becomes cuda where there is a GPU, else cpu; anything else stays. Raises ValueError for an absent one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as e:
        raise ValueError(f"teacher.device: '{device}' is not a torch device") from e
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"teacher.device: '{device}' asked for, and this machine has no usable GPU")
    return device
