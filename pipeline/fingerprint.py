"""What a dataset was made with: everything that changes its bytes, compared before a build goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import concept_pool
import pipeline
import storage
import world
from concept_pool.pool import ConceptPool
from pipeline.block_list import BlockList
from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.duplicates import held_out
from pipeline.settings import BuildSettings

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from pipeline.sources import Source

#: Settings that say where and how fast, and change no byte.
RUNTIME_KEYS = (
    "out", "runtime", "reject_budget", "damage_budget", "workers", "decode_threads", "cpus_per_worker",
    "gpus_per_worker", "no_progress_s", "recheck", "report",
)  # fmt: skip
#: What of the source's settings counts. Its input is compared by content (`Source.identity`), so that a folder may move.
SOURCE_KEYS = ("kind", "limit", "max_pixels")
POOL_FILES = ("aliases", "not_visible", "compounds", "extra_names", "templates")
LIBRARIES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "spacy",
    "pillow",
    "pyarrow",
    "numpy",
)
#: Code that makes bytes; readers and `verify` may change without making a dataset another one.
CODE = (
    (concept_pool, ("",)),
    (world, ("",)),
    (pipeline, (
        "sources", "localizers", "teachers", "networks", "stages", "corpus", "duplicates", "align.py", "scores.py",
        "images.py", "jpeg_gpu.py", "language.py",
        "orientation.py", "ranking.py", "coco.py", "rejects.py", "mentions.py", "block_list.py", "filters.py",
        "planning.py", "indexed.py", "pieces.py", "partition.py", "repeated_keys.py",
        "repeats.py", "refine.py",
        "dataset/records.py", "dataset/layout.py", "dataset/sample.py", "dataset/decimals.py", "dataset/npz.py",
        "dataset/shards.py",
    )),
)  # fmt: skip


def components(settings: BuildSettings, source: Source) -> dict[str, Any]:
    """A JSON document of all that changes bytes: settings, input, weights, code, libraries, format."""
    from pipeline import localizers, sources, teachers

    values = dataclasses.asdict(settings)
    for key in (*RUNTIME_KEYS, "localizer", "teacher"):
        values.pop(key)
    values["source"] = {k: values["source"][k] for k in SOURCE_KEYS}
    values["source"]["block_list"] = BlockList.of_setting(settings.source.block_list).identity()
    values["duplicates"]["held_out"] = held_out.identity(settings.duplicates.held_out)
    if settings.duplicates.needs("near"):
        values["duplicates"]["imagehash"] = _version("imagehash")
    for key in POOL_FILES:  # files count by content
        path = values["pool"][key]
        values["pool"][key] = storage.sha256(storage.absolute(path)) if path else None
    path = values["pool"].pop("path")
    values["pool"]["pool"] = ConceptPool.load(storage.absolute(path)).hash if path else None
    document = {
        "format_version": FORMAT_VERSION,
        "settings": values,
        "input": {**sources.describe(settings.source), **source.identity()},
        "localizer": localizers.describe(settings.localizer),
        "teacher": teachers.describe(settings.teacher),
        "code": code_hash(),
        "libraries": libraries(),
    }
    return json.loads(json.dumps(document))  # tuples become lists, so that a read document compares equal


def identity(components: Any, record: dict[str, Any]) -> dict[str, str]:
    """The two hashes that every row and sample of a dataset carries. record: of its pool and embeddings."""
    return {
        "fingerprint": digest({"components": components, "embeddings": record}),
        "pool": record["pool"],
    }


def identity_of(layout: Layout, components: Any) -> dict[str, str] | None:
    """`identity` of the dataset in a folder; None where the record of its pool is gone or damaged."""
    try:
        return identity(components, json.loads(storage.read_bytes(layout.embeddings_record)))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def digest(document: Any) -> str:
    """16 hex digits of the sha256 of a JSON document, keys sorted."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def libraries() -> dict[str, str | None]:
    """The versions of everything whose release may change bytes, Python's and the processor's kind among them."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        **{name: _version(name) for name in LIBRARIES},
    }


@cache
def code_hash() -> str:
    """16 hex digits over the files of `CODE` (weights have hashes of their own)."""
    sha = hashlib.sha256()
    for package, places in CODE:
        for place in places:
            root = resources.files(package)
            for name, content in _files(root / place if place else root, f"{package.__name__}/{place}"):
                sha.update(name.encode() + b"\0" + content + b"\0")
    return sha.hexdigest()[:16]


def _files(place: Traversable, name: str) -> list[tuple[str, bytes]]:
    if place.is_file():
        return [(name, place.read_bytes())]
    found = []
    for child in sorted(place.iterdir(), key=lambda c: c.name):
        if child.is_dir() and child.name != "__pycache__":
            found += _files(child, f"{name}/{child.name}")
        elif child.name.endswith((".py", ".txt", ".csv", ".json", ".yaml")):
            found.append((f"{name}/{child.name}", child.read_bytes()))
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
