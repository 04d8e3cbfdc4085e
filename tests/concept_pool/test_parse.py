"""The parser as a whole, with spaCy."""

import pickle
import random
from multiprocessing import Pipe

import pytest

from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings
from concept_pool.tagger import load_spacy
from tests.concept_pool.labelled import read_labelled, score

ROWS = read_labelled()
CAPTIONS = [row.caption for row in ROWS]


@pytest.fixture(scope="module")
def parser():
    return Parser(PoolSettings())


@pytest.fixture(scope="module")
def parsed(parser):
    return parser.parse(CAPTIONS)


@pytest.mark.parametrize(
    ("kind", "precision", "recall"),
    [("coco", 0.97, 0.97), ("web", 0.95, 0.93), ("awkward", 0.95, 0.95), ("held-out", 0.95, 0.95)],
)
def test_labelled_captions(parsed, kind, precision, recall):
    found = score(ROWS, parsed)[kind]
    assert found.precision >= precision, found.mistakes
    assert found.recall >= recall, found.mistakes


def test_the_labelled_set_is_large_enough():
    assert len(ROWS) >= 150
    assert len({row.caption for row in ROWS}) == len(ROWS)


def test_a_caption_is_read_alike_in_any_company(parser, parsed):
    alone = Parser(PoolSettings(cache_captions=0))
    order = list(range(len(CAPTIONS)))
    random.Random(0).shuffle(order)
    shuffled = alone.parse([CAPTIONS[i] for i in order])
    assert shuffled == [parsed[i] for i in order]
    assert [alone.parse([caption])[0] for caption in CAPTIONS[:25]] == parsed[:25]


def test_tags_are_those_of_spacys_own_pipe(parser):
    texts = [parser.clean(caption) for caption in CAPTIONS]
    texts = [text for text in texts if text]
    slow = [[(token.text, token.tag_) for token in doc] for doc in load_spacy().pipe(texts)]
    ours = parser.tagger.tag(texts)
    different = sum(a != b for a, b in zip(ours, slow, strict=True))
    assert different == 0


def test_a_repeated_caption_is_tagged_once(parser, monkeypatch):
    fresh = Parser(PoolSettings(cache_captions=2))
    seen = []
    tag = fresh.tagger.tag
    monkeypatch.setattr(fresh.tagger, "tag", lambda texts: seen.extend(texts) or tag(texts))
    fresh.parse(["a dog", "A dog", "a cat", "a dog"])
    assert seen == ["a dog", "a cat"]
    fresh.parse(
        ["a dog", "a horse", "a bus"]
    )  # the cache holds two: the dog and the cat, then the newest two
    fresh.parse(["a cat"])
    assert seen == ["a dog", "a cat", "a horse", "a bus", "a cat"]


def test_spacys_memory_of_words_is_bounded(parser):
    fresh = Parser(PoolSettings(cache_captions=0))
    fresh.tagger._limit = len(fresh.tagger._strings) + 3
    before = fresh.tagger._strings
    assert fresh.parse(["a zyxwa dog"]) == fresh.parse(["a zyxwa dog"])
    fresh.parse([f"a qwerty{letter}zz cat" for letter in "abcdefgh"])
    fresh.parse(["a cat"])
    assert fresh.tagger._strings is not before


def test_a_parser_travels_light(parser, parsed):
    assert len(pickle.dumps(parser)) < 10_000
    here, there = Pipe()
    with here, there:
        here.send(parser)  # as it is sent to a worker
        assert there.recv().parse(CAPTIONS[:3]) == parsed[:3]


def test_attributes_are_names_of_their_own():
    found = Parser(PoolSettings(attributes=True)).parse(["A small red car next to a dog."])
    assert found == [["car", "small car", "red car", "dog"]]
