"""A dataset of photographs with targets of the real size but random content, for the training benchmarks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.shared_data import find_shared_data
from pipeline.dataset.layout import FORMAT_VERSION, Layout
from pipeline.dataset.records import sample_key
from pipeline.dataset.sample import annotated_row
from pipeline.dataset.shards import commit


def photographs(n: int) -> list[bytes]:
    """n JPEGs: COCO's where they are at hand (repeated if need be), else smooth noise of their size and quality."""
    shared = find_shared_data()
    if shared is not None:
        files = sorted((shared / "coco_photos" / "images").glob("*.jpg"))
        return [files[i % len(files)].read_bytes() for i in range(n)]
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 6, (480, 640, 3))
        buffer = io.BytesIO()
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        out.append(buffer.getvalue())
    return out


def write_dataset(
    out: Path,
    n_images: int,
    per_shard: int = 64,
    regions: int = 100,
    concepts: int = 1000,
    dim: int = 1024,
    k: int = 16,
) -> Path:
    """Writes n_images samples with the project's own shard writer."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(concepts, dim)).astype(np.float32)
    layout = Layout(str(out))
    Path(layout.pool).mkdir(parents=True)
    save_file({"text_embeddings": text}, layout.pool_file("text_embeddings.safetensors"))
    Path(layout.settings).write_text("align: {tau: 0.01}\n")
    Path(layout.fingerprint).write_text(json.dumps({"format_version": FORMAT_VERSION}))
    samples = [
        _sample(rng, i, image, regions, concepts, dim, k) for i, image in enumerate(photographs(n_images))
    ]
    identity = {"fingerprint": "0" * 16, "pool": "0" * 16}
    for start in range(0, n_images, per_shard):
        part = samples[start : start + per_shard]
        commit(layout, f"{start // per_shard:06d}-{start:012x}", len(part), part, [], identity)
    return out


def _sample(
    rng: np.random.Generator, i: int, image: bytes, regions: int, concepts: int, dim: int, k: int
) -> dict:
    corners = np.sort(rng.random((regions, 2, 2)), axis=1).reshape(regions, 4) * 0.7
    boxes = corners + np.array([0, 0, 0.3, 0.3])
    q = np.sort(rng.dirichlet(np.full(k + 1, 0.2), size=regions).astype(np.float32), axis=1)[:, ::-1]
    ids = np.stack([rng.choice(concepts, k, replace=False) for _ in range(regions)])
    captions = rng.normal(size=(5, dim)).astype(np.float32)
    arrays = {
        "boxes_xyxy_norm": boxes.astype(np.float32),
        "objectness": -np.arange(regions, dtype=np.float32),
        "topk_ids": ids.astype(np.uint16),
        "topk_probs": q[:, :k].astype(np.float16),
        "residual": q[:, k].astype(np.float16),
        "scores": q[:, 0].astype(np.float16),
        "kept": (q[:, 0] <= 0.1).astype(np.uint8),
        "caption_embeddings": (captions / np.linalg.norm(captions, axis=1, keepdims=True)).astype(np.float16),
    }
    meta = {"captions": ["a photograph"] * 5}
    return annotated_row(sample_key(str(i), image), "jpg", image, meta, arrays)
