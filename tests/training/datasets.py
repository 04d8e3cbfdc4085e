"""Tiny datasets in the format of docs/format.md, made in code."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.dataset.records import sample_key
from pipeline.dataset.sample import annotated_row
from pipeline.dataset.shards import commit


def make_dataset(
    out: Path,
    shards: int = 3,
    per_shard: int = 6,
    concepts: int = 7,
    dim: int = 8,
    top_k: int = 4,
    regions: int = 5,
    size: int = 32,
    embeddings: bool = True,
    extension: str = "png",
    seed: int = 0,
    threshold: float = 0.3,
) -> Path:
    """Random images whose regions have random but consistent labels. Every third image has no caption."""
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(concepts, dim)).astype(np.float32)
    layout = Layout(str(out))
    (out / "concept_pool").mkdir(parents=True)
    save_file({"text_embeddings": text}, out / "concept_pool" / "text_embeddings.safetensors")
    (out / "settings.yaml").write_text("align:\n  tau: 0.05\n")
    (out / "fingerprint.json").write_text(json.dumps({"format_version": FORMAT_VERSION}))
    for s in range(shards):
        rows = []
        for i in range(per_shard):
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (size, size + 8 * (i % 2), 3), np.uint8)
            Image.fromarray(pixels).save(buffer, {"png": "PNG", "jpg": "JPEG"}[extension])
            key = sample_key(f"{seed}-{s}-{i}", buffer.getvalue())
            arrays = _arrays(rng, text, top_k, regions, i % 3 != 2, embeddings, threshold)
            rows.append(sample_row(key, extension, buffer.getvalue(), arrays))
        write_shard(layout, s, rows)
    return out


def sample_row(key: str, extension: str, image: bytes, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A row of `records.ANNOTATED`."""
    captions = ["a red thing on the left", "things"][: len(arrays["caption_embeddings"])]
    return annotated_row(key, extension, image, {"captions": captions}, arrays)


def write_shard(layout: Layout, ordinal: int, rows: list[dict[str, Any]]) -> None:
    """Writes a shard, its index and its manifest row."""
    part = f"{ordinal:06d}-{ordinal:012x}"
    commit(layout, part, len(rows), rows, [], {"fingerprint": "f" * 64, "pool": "a" * 64})


def to_memory(folder: Path, name: str) -> str:
    """A copy of a dataset in fsspec's memory, as an object store would hold it; its URL."""
    memory = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            memory.pipe(f"/{name}/{path.relative_to(folder)}", path.read_bytes())
    return f"memory://{name}"


def _arrays(rng, text, top_k, regions, captioned, embeddings, threshold) -> dict[str, np.ndarray]:
    corners = np.sort(rng.random((regions, 2, 2)).astype(np.float32), axis=1)
    boxes = np.concatenate([corners[:, 0] * 0.6, corners[:, 0] * 0.6 + 0.2 + 0.2 * corners[:, 1]], axis=1)
    unit = text / np.linalg.norm(text, axis=1, keepdims=True)
    teacher = (
        rng.normal(size=(regions, text.shape[1])).astype(np.float32)
        + 2 * unit[rng.integers(len(text), size=regions)]
    )
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    logits = teacher @ unit.T / 0.05
    q = np.exp(logits - logits.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    ids = np.argsort(-q, axis=1, kind="stable")[:, :top_k]
    top = np.take_along_axis(q, ids, axis=1)
    n_captions = 2 if captioned else 0
    arrays = {
        "boxes_xyxy_norm": boxes.astype(np.float32),
        "objectness": -np.arange(regions, dtype=np.float32),
        "topk_ids": ids.astype(np.uint16),
        "topk_probs": top.astype(np.float16),
        "residual": np.clip(1 - top.sum(axis=1), 0, 1).astype(np.float16),
        "kept": (top[:, 0] <= threshold).astype(np.uint8),
        "caption_embeddings": unit[rng.integers(len(text), size=n_captions)].astype(np.float16),
    }
    if embeddings:
        arrays["region_embeddings"] = teacher.astype(np.float16)
    return arrays
