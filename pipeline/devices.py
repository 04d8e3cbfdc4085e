"""Which torch device a setting means on the machine that reads it: the one rule for `auto`."""

from __future__ import annotations

import numpy as np
import torch


def resolve_device(device: str, setting: str = "teacher.device") -> str:
    """`auto` becomes cuda where there is a GPU, else cpu; anything else stays.

    setting: the setting's name, for messages. Raises ValueError("SETTING: ...") for a device that torch does not know
    or this machine does not have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as e:
        raise ValueError(f"{setting}: '{device}' is not a torch device") from e
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{setting}: '{device}' asked for, and this machine has no usable GPU")
    return device


def to_device(array: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """The values on the device. To a GPU they go through pinned memory, and the program does not wait for the copy."""
    tensor = torch.as_tensor(array)
    if device.type != "cuda":
        return tensor.to(device)
    if tensor.device.type == "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
