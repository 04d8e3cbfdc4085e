"""What a run was started with, so that it is not gone on with under other settings without a word."""

from __future__ import annotations

import dataclasses
from typing import Any

import storage
from training.settings import TrainSettings

#: Settings that say where, how fast and how closely watched. All others decide which student comes out.
FREE = frozenset(
    {
        # Whose dataset it is, its fingerprint says (`Loader.load_state_dict`); the folder may move.
        *(
            f"data.{k}"
            for k in ("dataset", "images", "workers", "prefetch", "buffer_dir", "buffer_gib", "cache_images")
        ),
        "data.bad_budget",
        *(
            f"student.encoder.{k}"
            for k in ("device", "batch_images", "channels_last", "compile", "resize_threads")
        ),
        *(
            f"run.{k}"
            for k in ("out", "device", "runtime", "ranks", "cpus_per_rank", "max_failures", "threads")
        ),
        *(f"run.{k}" for k in ("resume", "checkpoint_every", "keep_last", "evaluate_every", "log_every")),
        *(f"run.{k}" for k in ("log_keys", "tensorboard")),
    }
)
#: A run may be made longer. Not one of ReFO's: the lengths of its stages are shares of it.
LENGTH = frozenset({"run.steps", "run.epochs"})


def identity(settings: TrainSettings) -> dict[str, Any]:
    """Key -> value of each setting that decides which student comes out; JSON values. Weights files count by content."""
    values = _flat(storage.redacted_values(dataclasses.asdict(settings)))
    if settings.student.checkpoint:
        values["student.checkpoint"] = storage.sha256(settings.student.checkpoint)
    free = FREE if settings.loss.distill == "feature" else FREE | LENGTH
    return {k: v for k, v in values.items() if k not in free}


def differences(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for each setting that differs: `loss.tau was 0.01, is 0.5`."""
    keys = sorted(was.keys() | now.keys())
    return [
        f"{k} was {was.get(k, 'absent')!r}, is {now.get(k, 'absent')!r}"
        for k in keys
        if was.get(k, "absent") != now.get(k, "absent")
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
