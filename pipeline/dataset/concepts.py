"""The concept pool of a dataset and the text embeddings of its classes, as files beside the shards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import storage
from concept_pool.pool import ConceptPool
from pipeline.dataset.damage import DamagedDataset, by_its_maker, reading
from pipeline.dataset.layout import POOL_FILES, Layout

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Vocabulary:
    """The pool as alignment needs it: C names, their float32 [C, D] embeddings, and the pool's hash."""

    names: list[str]
    embeddings: torch.Tensor
    hash: str


def write_embeddings(
    layout: Layout, pool: ConceptPool, matrix: torch.Tensor, templates: str
) -> dict[str, Any]:
    """Writes `text_embeddings` (float32 [C, D]), then the record of all files of the pool; returns the record.

    templates: the hash of the prompt templates.
    """
    from safetensors.torch import save

    storage.write_bytes(
        layout.pool_file("text_embeddings.safetensors"), save({"text_embeddings": matrix.contiguous()})
    )
    record = _record(layout, pool, int(matrix.shape[1]), templates)
    write_record(layout, record)
    return record


def write_record(layout: Layout, record: dict[str, Any]) -> None:
    """Says that the files of the pool are whole."""
    storage.write_bytes(layout.embeddings_record, json.dumps(record, indent=1).encode())


def embeddings_record(layout: Layout) -> dict[str, Any] | None:
    """What `write_embeddings` wrote; None if it has not finished or a file of the pool is not the one it describes."""
    try:
        record = json.loads(storage.read_bytes(layout.embeddings_record))
        return None if changed_files(layout, record) else record
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def described(layout: Layout, templates: str) -> dict[str, Any] | None:
    """What `write_embeddings` would say of the files of the pool that are there; None where they are no pool."""
    try:
        pool, matrix = load_pool(layout, checked=False), load_embeddings(layout, checked=False)
    except DamagedDataset:
        return None
    return _record(layout, pool, int(matrix.shape[1]), templates) if len(matrix) == len(pool.names) else None


def _record(layout: Layout, pool: ConceptPool, dim: int, templates: str) -> dict[str, Any]:
    return {
        "pool": pool.hash,
        "templates": templates,
        "n_concepts": len(pool.names),
        "dim": dim,
        "sha256": {name: storage.sha256(layout.pool_file(name)) for name in POOL_FILES},
    }


def changed_files(layout: Layout, record: dict[str, Any]) -> list[str]:
    """The files of the pool that are missing or whose bytes are not those of the record."""
    present = storage.listing(layout.pool)
    return [
        name
        for name in POOL_FILES
        if name not in present or storage.sha256(layout.pool_file(name)) != record["sha256"][name]
    ]


def load_pool(layout: Layout, checked: bool = True) -> ConceptPool:
    """The pool. Raises DamagedDataset; checked: also where it is not the one of the record, where there is one."""
    with reading(layout.pool, by_its_maker(layout.url)):
        pool = ConceptPool.load(layout.pool)
        if checked and _said(layout, "pool") not in (None, pool.hash):
            raise ValueError("its pool is not the one in embeddings.json")
        return pool


def load_embeddings(layout: Layout, checked: bool = True) -> torch.Tensor:
    """float32 [C, D], on the CPU, un-normalised. Raises DamagedDataset for a damaged file; checked: also for one that is
    not the record's, where there is one."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = "text_embeddings.safetensors"
    url = layout.pool_file(name)
    with reading(url, by_its_maker(layout.url)):
        data = storage.read_bytes(url)
        if checked and _said(layout, "sha256", name) not in (None, hashlib.sha256(data).hexdigest()):
            raise ValueError("its sha256 is not the one in embeddings.json")
        try:
            return load(data)["text_embeddings"].float()
        except SafetensorError as e:
            raise ValueError(f"not the text embeddings of a dataset ({e})") from e


def _said(layout: Layout, *keys: str) -> Any:
    """A value of the record; None where there is none that can be read: a dataset whose record is lost can be read."""
    try:
        found = json.loads(storage.read_bytes(layout.embeddings_record))
        for key in keys:
            found = found[key]
        return found
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def load_vocabulary(layout: Layout) -> Vocabulary:
    """The pool's classes and their embeddings, from files."""
    pool = load_pool(layout)
    return Vocabulary(list(pool.names), load_embeddings(layout), pool.hash)
