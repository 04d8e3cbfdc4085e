"""Pass one over the captions: the concept pool and its text embeddings, as files beside the shards."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import storage
from concept_pool.count import Counts, count_block
from concept_pool.embed import embed_pool
from concept_pool.parse import Parser
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates, templates_hash
from pipeline import teachers
from pipeline.dataset.plan import Part, Plan
from pipeline.settings import BuildSettings
from pipeline.stages.annotate import Vocabulary

FOLDER = "concept_pool"
FILES = ("concepts.parquet", "rejected.parquet", "pool.json", "text_embeddings.safetensors")
MENTIONS = pa.schema(
    [pa.field("names", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False)]
)


def count_parts(settings: BuildSettings, plan: Plan, parts: list[Part]) -> Counts:
    """Concepts of the captions of `parts`; leaves what each image mentions in `plan/mentions/<part>.parquet`.

    Only samples that may reach a shard are counted: a duplicate or a missing file does not vote.
    """
    parser = Parser(settings.pool)
    total = Counts(settings.pool.max_examples)
    for part in parts:
        rows = plan.rows(part).to_pylist()
        captions = [[] if r["problem"] else r["captions"] for r in rows]
        counts, mentions = count_block(captions, parser)
        total.merge(counts)
        with storage.atomic_write(_mentions_url(plan.out, part)) as f:
            pq.write_table(pa.table([mentions], schema=MENTIONS), f)
    return total


def mentions(out: str, part: Part) -> list[list[str]]:
    """The concept names that each image of a part mentions in its captions, in the order of the part's rows."""
    with storage.open_read(_mentions_url(out, part)) as f:
        return pq.read_table(f).column("names").to_pylist()


def _mentions_url(out: str, part: Part) -> str:
    return storage.join(out, "plan", "mentions", f"{part.name}.parquet")


def embed(settings: BuildSettings, out: str) -> dict[str, Any]:
    """Embeds the saved pool with the teacher's text encoder; runs where the models run. Returns what it wrote.

    Writes `concept_pool/text_embeddings.safetensors` (`text_embeddings`, float32 [C, D]), then
    `concept_pool/embeddings.json` with the hashes of pool and templates and the sha256 of every file beside it.
    """
    torch.set_num_threads(settings.threads)
    pool = ConceptPool.load(storage.join(out, FOLDER))
    templates = load_templates(settings.pool.templates)
    teacher = teachers.load(settings.teacher)
    matrix = embed_pool(pool.names, templates, teacher.encode_text, settings.pool.ensemble)
    data = save_tensors({"text_embeddings": torch.as_tensor(matrix).contiguous()})
    url = storage.join(out, FOLDER, "text_embeddings.safetensors")
    storage.write_bytes(url, data)
    record = {
        "pool": pool.hash,
        "templates": templates_hash(templates),
        "n_concepts": len(pool.names),
        "dim": int(matrix.shape[1]),
        "sha256": {name: storage.sha256(storage.join(out, FOLDER, name)) for name in FILES},
    }
    storage.write_bytes(storage.join(out, FOLDER, "embeddings.json"), json.dumps(record, indent=1).encode())
    return record


def embeddings_record(out: str) -> dict[str, Any] | None:
    """What `embed` wrote, or None if it has not finished or a file of the pool is not the one it describes."""
    try:
        record = json.loads(storage.read_bytes(storage.join(out, FOLDER, "embeddings.json")))
        return None if changed_files(out, record) else record
    except (FileNotFoundError, ValueError, KeyError):
        return None


def changed_files(out: str, record: dict[str, Any]) -> list[str]:
    """The files of the pool that are missing or whose bytes are not those of the record."""
    present = storage.listing(storage.join(out, FOLDER))
    return [
        name
        for name in FILES
        if name not in present or storage.sha256(storage.join(out, FOLDER, name)) != record["sha256"][name]
    ]


def load_vocabulary(out: str) -> Vocabulary:
    """The pool's classes and their embeddings, from files."""
    pool = ConceptPool.load(storage.join(out, FOLDER))
    data = storage.read_bytes(storage.join(out, FOLDER, "text_embeddings.safetensors"))
    return Vocabulary(list(pool.names), load_tensors(data)["text_embeddings"], pool.hash)
