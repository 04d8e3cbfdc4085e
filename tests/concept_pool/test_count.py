"""Counts: against a slow twin, merged in any order, through tables."""

import hashlib
import random
from collections import Counter
from multiprocessing import Pipe

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_pool.count import Counts, count_block, tails, with_tails
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings

IMAGES = [
    ["Two men eat hot dogs near a traffic light.", "Men with hot dogs.", "Men with hot dogs."],
    ["A man's tennis racket and a pair of scissors.", "a tennis racket"],
    ["A dog in the kitchen area."],
    [],
    ["a kitchen sink", "a sink and a steel sink"],
]
NAMES = ["dog", "hot dog", "kitchen sink", "big kitchen sink", "sink", "man"]
OPAQUE = frozenset({"hot dog"})


@pytest.fixture(scope="module")
def parser():
    return Parser(PoolSettings())


def slow_counts(images, max_examples):
    """The counts from their definition, one name at a time."""
    counts = {}
    for name in {name for image in images for _, names in image for name in names}:
        captions = {caption for image in images for caption, names in image if name in names}
        ranks = sorted(captions, key=lambda text: hashlib.blake2b(text.encode(), digest_size=8).digest())
        counts[name] = (
            sum(any(name in names for _, names in image) for image in images),
            sum(name in names for image in images for _, names in image),
            ranks[:max_examples],
        )
    return counts


def counted(images, max_examples=2):
    counts = Counts(max_examples)
    for image in images:
        counts.add_image(image, OPAQUE)
    return counts


captions = st.tuples(
    st.text("abc ", max_size=5), st.lists(st.sampled_from(NAMES), unique=True, max_size=4).map(tuple)
)
images = st.lists(st.lists(captions, max_size=3, unique_by=lambda caption: caption[0]), max_size=8)


@settings(deadline=None)
@given(images)
def test_counts_are_those_of_the_slow_twin(corpus):
    fast, slow = counted(corpus), slow_counts(corpus, 2)
    assert fast.images == {name: n for name, (n, _, _) in slow.items()}
    assert fast.mentions == {name: n for name, (_, n, _) in slow.items()}
    assert {name: [text for _, text in kept] for name, kept in fast.examples.items()} == {
        name: examples for name, (_, _, examples) in slow.items()
    }
    for name in NAMES:
        named = [{name for _, names in image for name in names} for image in corpus]
        assert fast.within[name] == sum(name in with_tails(names, OPAQUE) for names in named)


@settings(deadline=None)
@given(images, st.randoms(use_true_random=False), st.integers(1, 4))
def test_merging_in_any_order_is_counting_at_once(corpus, rng, n_parts):
    parts = [counted(corpus[i::n_parts]) for i in range(n_parts)]
    rng.shuffle(parts)
    total = Counts()
    for part in parts:
        total.merge(part)
    whole = counted(corpus)
    if corpus:
        assert total.to_table().equals(whole.to_table())
        assert Counts.from_table(whole.to_table()) == whole
        here, there = Pipe()
        with here, there:
            here.send(whole)  # as a worker sends it
            assert there.recv() == whole


def test_different_numbers_of_examples_do_not_merge():
    with pytest.raises(ValueError, match="cannot be merged"):
        counted([[("a", ("dog",))]], 1).merge(counted([[("a", ("dog",))]], 2))


def test_tails():
    assert tails("big kitchen sink", OPAQUE) == ["kitchen sink", "sink"]
    assert tails("hot dog", OPAQUE) == []
    assert tails("cold hot dog", OPAQUE) == ["hot dog"]
    assert tails("dog", OPAQUE) == []


def test_a_block_of_captions(parser):
    counts, mentions = count_block(IMAGES, parser)
    assert counts.n_images == 5
    assert counts.n_captions == 7  # a caption that an image has twice counts once
    assert counts.images["man"] == 2
    assert counts.mentions["man"] == 3
    assert counts.images["sink"] == 1
    assert counts.within["sink"] == 1
    assert counts.within["dog"] == 1  # the hot dogs are none
    assert counts.rejected[("area", "position")] == 1
    assert mentions[0] == ["hot dog", "man", "traffic light"]
    assert mentions[3] == []


def test_blocks_of_any_size_and_order_count_alike(parser):
    whole = count_block(IMAGES * 3, parser)[0].to_table()
    order = IMAGES * 3
    random.Random(1).shuffle(order)
    parts = [count_block(order[i : i + 4], parser)[0] for i in range(0, len(order), 4)]
    total = parts[-1]
    for part in parts[:-1]:
        total.merge(part)
    assert total.to_table().equals(whole)


def test_odd_captions_cost_nobody_else(parser):
    odd = [
        "\ud800 a dog",
        "",
        "\x00",
        "\u202eabc",
        "猫と犬 🐶",
        "&#xd800;&#0;",
        "<" * 2000,
        "x@" * 3000,
        "a dog " * 5000,
    ]
    counts, mentions = count_block([[caption] for caption in odd] + [["a cat"]], parser)
    assert mentions[0] == ["dog"]
    assert mentions[-1] == ["cat"]
    assert counts.n_images == len(odd) + 1
    assert Counts.from_table(counts.to_table()) == counts


def test_counters_hold_no_zeros(parser):
    counts, _ = count_block(IMAGES, parser)
    assert Counter(counts.within) & counts.images == counts.images
    assert all(n > 0 for n in counts.images.values())
