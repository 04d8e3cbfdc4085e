"""Tiny datasets in the format of docs/format.md, made in code."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from pipeline.dataset.records import sample_key


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
    (out / "concept_pool").mkdir(parents=True)
    save_file({"text_embeddings": text}, out / "concept_pool" / "text_embeddings.safetensors")
    (out / "settings.yaml").write_text("align:\n  tau: 0.05\n")
    (out / "shards").mkdir()
    (out / "manifest").mkdir()
    for s in range(shards):
        samples = {}
        for i in range(per_shard):
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (size, size + 8 * (i % 2), 3), np.uint8)
            Image.fromarray(pixels).save(buffer, {"png": "PNG", "jpg": "JPEG"}[extension])
            key = sample_key(f"{seed}-{s}-{i}", buffer.getvalue())
            samples[key] = _members(
                rng,
                key,
                buffer.getvalue(),
                extension,
                text,
                top_k,
                regions,
                i % 3 != 2,
                embeddings,
                threshold,
            )
        write_shard(out, f"{s:06d}-{s:012x}.tar", samples)
    return out


def write_shard(out: Path, name: str, samples: dict[str, dict[str, bytes]]) -> None:
    """Writes a shard and its manifest row."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key in sorted(samples):
            for extension, data in samples[key].items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
    (out / "shards" / name).write_bytes(buffer.getvalue())
    row = {
        "shard": name,
        "part": name.split(".")[0],
        "n_bytes": len(buffer.getvalue()),
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "n_read": len(samples),
        "n_samples": len(samples),
        "n_rejected": 0,
        "n_regions": 0,
        "n_pairs": 0,
        "fingerprint": "f" * 64,
        "pool": "a" * 64,
    }
    (out / "manifest" / (name.split(".")[0] + ".json")).write_text(json.dumps(row))


def _members(
    rng, key, image, extension, text, top_k, regions, captioned, embeddings, threshold
) -> dict[str, bytes]:
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
    captions = ["a red thing on the left", "things"] if captioned else []
    arrays = {
        "boxes_xyxy_norm": boxes.astype(np.float32),
        "objectness": -np.arange(regions, dtype=np.float32),
        "topk_ids": ids.astype(np.uint16),
        "topk_probs": top.astype(np.float16),
        "residual": np.clip(1 - top.sum(axis=1), 0, 1).astype(np.float16),
        "kept": (top[:, 0] > threshold).astype(np.uint8),
        "caption_embeddings": unit[rng.integers(len(text), size=len(captions))].astype(np.float16),
    }
    if embeddings:
        arrays["region_embeddings"] = teacher.astype(np.float16)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    meta = {"format_version": 1, "key": key, "captions": captions}
    return {extension: image, "json": json.dumps(meta).encode(), "npz": buffer.getvalue()}
