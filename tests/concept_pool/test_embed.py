"""Prompt ensembles against a slow twin: one concept at a time, as the formulas say."""

import numpy as np
import pytest
import torch

from concept_pool.embed import embed_pool, embeddings_hash
from concept_pool.prompts import fill, load_templates

NAMES = ["dog", "apple", "traffic light", "cat, big+fluffy", "unicorn"]


def encode(prompts):
    """A text encoder that hears every letter and its place; rows are independent."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(128, 16, generator=generator)
    rows = [torch.stack([table[ord(c) % 128] * (1 + i % 3) for i, c in enumerate(p)]).sum(0) for p in prompts]
    return torch.stack(rows)


def slow(names, templates, ensemble):
    found = []
    for name in names:
        rows = [
            encode([fill(template, name, ensemble == "normalised")])[0].double() for template in templates
        ]
        if ensemble == "regionclip":
            found.append(sum(rows) / len(rows))
        else:
            mean = sum(row / row.norm() for row in rows) / len(rows)
            found.append(mean / mean.norm())
    return torch.stack(found).numpy()


@pytest.mark.parity(5)
@pytest.mark.parametrize("ensemble", ["normalised", "regionclip"])
@pytest.mark.parametrize("batch_prompts", [1, 200, 5000])
def test_ensembles(ensemble, batch_prompts):
    templates = load_templates()
    found = embed_pool(NAMES, templates, encode, ensemble, batch_prompts)
    assert found.shape == (5, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow(NAMES, templates, ensemble), rtol=1e-4, atol=1e-5)
    assert np.allclose(np.linalg.norm(found, axis=1), 1) == (ensemble == "normalised")


def test_bad_input():
    with pytest.raises(ValueError, match="ensemble"):
        embed_pool(NAMES, ["{}"], encode, "mean")
    with pytest.raises(ValueError, match="apple"):
        embed_pool(
            NAMES, ["{}"], lambda p: torch.tensor([[float("nan") if "apple" in x else 1.0] for x in p])
        )
    assert embed_pool([], ["{}"], encode).shape[0] == 0


def test_half_precision_encoders():
    found = embed_pool(["dog"], ["a {}", "the {}"], lambda prompts: encode(prompts).half())
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found), 1, atol=1e-6)


def test_hash_of_everything_that_makes_embeddings():
    parts = ("pool", ["{}"], "encoder", "normalised")
    changed = [("loop", *parts[1:]), ("pool", ["a {}"], *parts[2:]), ("pool", ["{}"], "other", parts[3])]
    hashes = {embeddings_hash(*parts), *(embeddings_hash(*other) for other in changed)}
    hashes.add(embeddings_hash("pool", ["{}"], "encoder", "regionclip"))
    assert len(hashes) == 5
