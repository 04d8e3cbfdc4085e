"""Which torch device a setting means on the machine that reads it: the one rule for `auto`."""

from __future__ import annotations

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
