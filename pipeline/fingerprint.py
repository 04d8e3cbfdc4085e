"""What a dataset was made with: everything that changes its bytes, compared before a build goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import concept_pool
import pipeline
import storage
from pipeline import localizers, teachers
from pipeline.dataset.records import FORMAT_VERSION
from pipeline.settings import BuildSettings
from pipeline.sources import Source

#: Settings that only say where and how fast; everything else changes bytes.
RUNTIME_KEYS = ("out", "runtime", "reject_budget", "workers", "cpus_per_worker", "gpus_per_worker", "recheck")
#: `kind` alone counts of the source: its input is compared by content (`identity`), so that a folder may move.
SOURCE_KEYS = ("kind", "limit", "max_pixels")
POOL_FILES = ("aliases", "not_visible", "compounds", "extra_names", "templates")
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "transformers", "spacy", "pillow")


class Refused(ValueError):
    """The folder holds a dataset that was made with something else. `differences`: one line each."""

    def __init__(self, differences: list[str]):
        super().__init__("\n".join(differences))
        self.differences = differences


def components(settings: BuildSettings, source: Source) -> dict[str, Any]:
    """A JSON document of all that changes bytes: settings, input, weights, code, libraries, format."""
    values = dataclasses.asdict(settings)
    for key in (*RUNTIME_KEYS, "localizer", "teacher"):
        values.pop(key)
    values["source"] = {k: values["source"][k] for k in SOURCE_KEYS}
    for key in POOL_FILES:  # files count by content
        path = values["pool"][key]
        values["pool"][key] = storage.sha256(path) if path else None
    document = {
        "format_version": FORMAT_VERSION,
        "settings": values,
        "input": source.identity(),
        "localizer": localizers.describe(settings.localizer),
        "teacher": teachers.describe(settings.teacher),
        "code": code_hash(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }
    return json.loads(json.dumps(document))  # tuples become lists, so that a read document compares equal


def differences(was: Any, now: Any, path: str = "") -> list[str]:
    """One line for every value that differs between two documents: `align.tau: was 0.01, is 0.02`."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*was, *now})
            for line in differences(was.get(key), now.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if was == now else [f"{path}: was {json.dumps(was)}, is {json.dumps(now)}"]


def digest(document: Any) -> str:
    """16 hex digits of the sha256 of a JSON document, keys sorted."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def code_hash() -> str:
    """16 hex digits over the Python and data files of `pipeline` and `concept_pool` (weights have hashes of their own)."""
    sha = hashlib.sha256()
    for package in (pipeline, concept_pool):
        root = Path(package.__file__ or "").parent
        for file in sorted(root.rglob("*")):
            if file.suffix in (".py", ".txt", ".csv", ".json", ".yaml"):
                sha.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return sha.hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
