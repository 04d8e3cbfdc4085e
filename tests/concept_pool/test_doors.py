"""The doors that the other rooms call."""

import pickle

import numpy as np
import pytest
import torch

from concept_pool.count import Counts, count_block
from concept_pool.embed import embed_pool
from concept_pool.parse import Parser
from concept_pool.pool import ConceptPool
from concept_pool.prompts import load_templates
from concept_pool.settings import PoolSettings

CAPTIONS = [
    ["Two men are eating hot dogs near a traffic light.", "Men with hot dogs."],
    ["A man's tennis racket and a pair of scissors.", "a tennis racket"],
    ["A dog in the kitchen area."],
    [],
]


@pytest.fixture(scope="module")
def parser():
    return Parser(PoolSettings(min_count=1))


def test_parse(parser):
    assert parser.parse([CAPTIONS[0][0], "", CAPTIONS[1][0]]) == [
        ["man", "hot dog", "traffic light"], [], ["man", "tennis racket", "scissors"],
    ]  # fmt: skip


def test_counts_merge_in_any_order(parser):
    whole, mentions = count_block(CAPTIONS, parser)
    first, _ = count_block(CAPTIONS[:2], parser)
    second, _ = count_block(CAPTIONS[2:], parser)
    assert second.merge(first).to_table().equals(whole.to_table())
    assert Counts.from_table(whole.to_table()).to_table().equals(whole.to_table())
    assert pickle.loads(pickle.dumps(whole)).to_table().equals(whole.to_table())  # noqa: S301
    assert whole.images["man"] == 2
    assert whole.mentions["man"] == 3
    assert whole.n_images == 4
    assert mentions[1] == ["man", "scissors", "tennis racket"]


def test_pool_round_trip(parser, tmp_path):
    counts, mentions = count_block(CAPTIONS, parser)
    pool = ConceptPool.from_counts(counts, parser.settings)
    pool.save(str(tmp_path))
    loaded = ConceptPool.load(str(tmp_path))
    assert loaded.hash == pool.hash
    assert loaded.names == pool.names == ["man", "dog", "hot dog", "kitchen", "scissors", "tennis racket", "traffic light"]
    assert loaded.ids_of(["sofa", "hair drier", "scissor", "man", "big tall man"]) == [0, 4]
    assert loaded.ids_of(mentions[2]) == [1, 3]


@pytest.mark.parametrize("ensemble", ["normalised", "regionclip"])
def test_embed_pool(ensemble):
    def encode(prompts):
        return torch.stack([torch.tensor([len(p), p.count("a"), 1.0]) for p in prompts])

    templates = load_templates()
    assert len(templates) == 81
    found = embed_pool(["dog", "apple"], templates, encode, ensemble)
    assert found.shape == (2, 3)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1) == (ensemble == "normalised")
