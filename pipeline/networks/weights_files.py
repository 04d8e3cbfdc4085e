"""Weights files: where those that ship with a package lie, and their bytes as tensors; never unpickled."""

from __future__ import annotations

import io
import json
import struct
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

import storage

RANDOM = "random:"


def shipped(package: str, kind: str) -> str:
    """The path of the weights of a kind that ship with one of our packages, in its folder `weights`."""
    return str(package_folder(package) / "weights" / f"{kind.replace('-', '_')}.safetensors")


def identity(weights: str) -> str:
    """What names these weights in a fingerprint: the sha256 of the file (path or URL), `random:SEED` as it is."""
    return weights if weights.startswith(RANDOM) else storage.sha256(weights)


def of_student(url: str) -> str:
    """The weights of a student: the file at a path or URL, or that of the run whose folder it is. Raises ValueError for a
    folder without them."""
    url = storage.absolute(url)
    if not storage.is_folder(url):
        return url
    file = storage.join(url, "student.safetensors")
    if not storage.exists(file):
        raise ValueError(
            f"{url}: no run of a student, or one that has not ended (it has no student.safetensors)"
        )
    return file


def package_folder(package: str) -> Path:
    """The folder of an installed package, without importing it. Raises ModuleNotFoundError that names the extra."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{package} is missing: it comes with the extra `photos` (pip install regionpairs[photos])"
        )
    return Path(spec.origin).parent


def random_seed(checkpoint: str | None) -> int | None:
    """The seed of `random:SEED`, None for anything else."""
    if checkpoint is None or not checkpoint.startswith(RANDOM):
        return None
    return int(checkpoint[len(RANDOM) :])


def parse(data: bytes, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file, or of a torch state dict (metadata then empty).

    A training checkpoint's `{"model": {...}}` is unwrapped. Raises ValueError for a file that is neither.
    """
    if data[:2] == b"PK" or data[:1] == b"\x80":
        try:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file, or one that holds code: torch raises what it likes
            raise ValueError(f"{name}: not a weights file ({type(error).__name__})") from error
        state = state.get("model", state) if isinstance(state, dict) else state
        if not isinstance(state, dict) or not all(
            isinstance(k, str) and _is_plain(v) for k, v in state.items()
        ):
            raise ValueError(f"{name}: not a state dict of tensors")
        return state, {}
    try:
        tensors = load_safetensors(data)
        (length,) = struct.unpack("<Q", data[:8])
        return tensors, json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (
        SafetensorError,
        struct.error,
        ValueError,
        KeyError,
    ) as error:  # KeyError: a dtype that torch lacks
        raise ValueError(f"{name}: not a weights file ({error})") from error


def _is_plain(value: object) -> bool:
    """Whether it is a tensor that holds its values: not sparse, not without data, not quantised."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def serialise(module: torch.nn.Module, metadata: dict[str, str], dtype: torch.dtype) -> bytes:
    """A module's weights as safetensors bytes: floats as `dtype`, counters left out, the same bytes each time."""
    tensors = {
        name: (
            value.detach().to("cpu", dtype) if value.is_floating_point() else value.detach().cpu()
        ).contiguous()
        for name, value in sorted(module.state_dict().items())
        if not name.endswith("num_batches_tracked")
    }
    return save_safetensors(tensors, metadata)


def load_into(module: torch.nn.Module, url: str) -> None:
    """Fills a module with a weights file (path or URL). Raises FileNotFoundError, and ValueError that names the file."""
    tensors, _ = parse(storage.read_bytes(url), storage.redacted(url))
    fill(module, tensors, storage.redacted(url))


def fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Loads weights into a module. Raises ValueError naming the first tensors that are missing, extra or misshaped."""
    own = module.state_dict()
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    given = {key for key in tensors if not key.endswith("num_batches_tracked")}
    wrong = [key for key in sorted(needed & given) if own[key].shape != tensors[key].shape]
    missing, extra = sorted(needed - given), sorted(given - needed)
    if missing or extra or wrong:
        raise ValueError(
            f"{name}: not weights of this network (missing {missing[:3]}, unknown {extra[:3]}, misshaped {wrong[:3]})"
        )
    module.load_state_dict({key: tensors[key].to(own[key].dtype) for key in sorted(given)}, strict=False)
