"""Concept names -> text embeddings: prompt ensembles, batched over the whole pool."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from concept_pool.prompts import fill, templates_hash
from concept_pool.settings import ENSEMBLES

if TYPE_CHECKING:
    import torch

EncodeText = Callable[[list[str]], "torch.Tensor"]


def embed_pool(
    names: Sequence[str],
    templates: Sequence[str],
    encode_text: EncodeText,
    ensemble: str = "normalised",
    batch_prompts: int = 2048,
) -> np.ndarray:
    """float32 [C, D]: one embedding a name, the ensemble of its prompts over `templates`.

    `encode_text` maps n strings to un-normalised float embeddings [n, D] on any device. Ensembles:
    "normalised" is normalise, mean, normalise, with "an" before vowels (OpenAI's protocol); "regionclip" is
    the plain mean of the un-normalised embeddings, stored un-normalised, of the literal templates. ValueError
    for a non-finite embedding.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"ensemble must be one of {', '.join(ENSEMBLES)}, not {ensemble!r}")
    chunk = max(1, batch_prompts // len(templates))
    found = [
        _embed_chunk(list(names[start : start + chunk]), templates, encode_text, ensemble)
        for start in range(0, len(names), chunk)
    ]
    embeddings = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=-1))
    if len(bad):
        raise ValueError(f"the text encoder gave non-finite embeddings for {[names[i] for i in bad[:5]]}")
    return embeddings


def _embed_chunk(
    names: list[str], templates: Sequence[str], encode_text: EncodeText, ensemble: str
) -> np.ndarray:
    import torch

    articles = ensemble == "normalised"
    prompts = [fill(template, name, articles) for name in names for template in templates]
    with torch.inference_mode():
        embeddings = encode_text(prompts).float().reshape(len(names), len(templates), -1)
        if ensemble == "regionclip":
            mean = embeddings.mean(dim=1)
        else:
            mean = torch.nn.functional.normalize(embeddings, dim=-1).mean(dim=1)
            mean = torch.nn.functional.normalize(mean, dim=-1)
        return mean.cpu().numpy().astype(np.float32, copy=False)


def embeddings_hash(pool_hash: str, templates: Sequence[str], text_encoder: str, ensemble: str) -> str:
    """sha256 that names a pool's embeddings: the pool, its templates, the ensemble and the text encoder (its
    own hash).
    """
    parts = (pool_hash, templates_hash(templates), ensemble, text_encoder)
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()
