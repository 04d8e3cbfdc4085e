"""Tensors as a safetensors file that says what it is, what it was made for, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import safetensors
from safetensors.numpy import load, save


def to_bytes(tensors: Mapping[str, np.ndarray], kind: str, made_for: str = "") -> bytes:
    """The same bytes for the same tensors (the header has one entry of metadata: safetensors does not order several)."""
    plain = {name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())}
    about = {"kind": kind, "made_for": made_for, "sha256": _digest(plain)}
    return save(plain, {"about": json.dumps(about, sort_keys=True)})


def from_bytes(data: bytes, kind: str, made_for: str | None = None) -> dict[str, np.ndarray]:
    """Raises ValueError for what `to_bytes` did not write, for damage, and for what was made for something else."""
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["about"])
        said = {name: about[name] for name in ("kind", "made_for", "sha256")}
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as e:
        raise ValueError(f"no {kind}: {type(e).__name__}: {str(e)[:200]}") from e
    if said["kind"] != kind:
        raise ValueError(f"no {kind}: it is a {said['kind']}")
    if said["sha256"] != _digest(tensors):
        raise ValueError(f"no {kind}: its tensors are not those that were written")
    if made_for is not None and said["made_for"] != made_for:
        raise ValueError(f"no {kind} of this: it was made for {said['made_for']}, this is {made_for}")
    return tensors


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name, t in sorted(tensors.items()):
        sha.update(f"{name} {t.dtype.str} {t.shape} ".encode() + t.tobytes())
    return sha.hexdigest()
