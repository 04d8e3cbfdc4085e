"""Where names stand in the caption as written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_pool.clean import clean, clean_caption, is_as_written
from concept_pool.edits import Traced
from concept_pool.parse import Parser
from concept_pool.settings import PoolSettings
from tests.concept_pool.labelled import read_labelled

CAPTIONS = [row.caption for row in read_labelled()]
PIECES = st.sampled_from(
    [
        "dog", "Red Car", "A ", " ", "  ", "\t", "-", "stop-sign", "&amp;", "&eacute;", "&ampdog", "&#39;", "é", "e\u0301",
        "ﬁre", "ｄｏｇ", "…", "’s", "“", "”", "—", "\u200b", "<b>", "[NAME]", "photo_of_cat.png", "https://a.b/c", "@me",
        "#tag", "stock photo", "Photo by Jane Doe", "3 of 12", "a/b", "İ", "Σ", "ß", "狗", "\u1100\u1161\u11a8", "\ud800",
        "👩‍🚀", "\u0300", ".", ", ", "'", '"', "surf board", "\x1c", "\xa0",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def parser():
    return Parser(PoolSettings())


def spans(parser, caption: str) -> list[tuple[str, str]]:
    """(name, how the caption says it)."""
    (parsed,) = parser.analyse([caption])
    return [(name, caption[a:b]) for name, a, b in parser.spans(caption, parsed)]


def test_every_name_of_the_labelled_captions_stands_where_it_is_said(parser):
    n_names = n_with_span = 0
    for caption, parsed in zip(CAPTIONS, parser.analyse(CAPTIONS), strict=True):
        found = parser.spans(caption, parsed)
        n_names += len(parsed.names)
        n_with_span += len({name for name, _, _ in found})
        for (name, start, end), (_, a, b) in zip(found, parsed.spans, strict=True):
            said = caption[start:end]
            assert said == said.strip()
            assert parser.clean(said).lower() == parsed.text[a:b].lower()
            assert counts_as(parser, parsed.text[a:b].lower(), name), (caption, said, name)
    assert n_names > 500
    assert n_with_span == n_names


def counts_as(parser, said: str, name: str) -> bool:
    """Whether words, in the singular or not, are a name or an alias of one, as a whole or in the last word."""
    aliases, (*front, last) = parser.lexicon.aliases, said.split()
    for word in (last, parser.tagger.singular(last, True), parser.tagger.singular(last, False)):
        whole = " ".join([*front, word])
        partly = " ".join([*front, aliases.get(word, word)])
        if name in (whole, aliases.get(whole), partly, aliases.get(partly)):
            return True
    return False


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("A dog chases dogs.", [("dog", "dog"), ("dog", "dogs")]),
        ("  Two  Stop-Signs  ", [("stop sign", "Stop-Signs")]),
        ("dog.jpg dog", [("dog", "dog")]),
        ("stock photo of a dog &amp; a caf&eacute;", [("dog", "dog"), ("café", "caf&eacute;")]),
        ("“dog” — ‘cat’…", [("dog", "dog"), ("cat", "cat")]),
        ("a kitchen area", [("kitchen", "kitchen")]),
        ("a background tree", [("tree", "tree")]),
        ("a metal wood kitchen box", [("wood kitchen box", "wood kitchen box")]),
        ("a boy on a surf board", [("boy", "boy"), ("surfboard", "surf board")]),
        ("People watch a leather sofa", [("person", "People"), ("leather couch", "leather sofa")]),
        ("the cafe\u0301 and a dog", [("café", "cafe\u0301"), ("dog", "dog")]),
        ("ｄｏｇ… and a cat", [("dog", "ｄｏｇ"), ("cat", "cat")]),
        ("", []),
    ],
)
def test_spans_survive_cleaning(parser, caption, found):
    assert spans(parser, caption) == found
    if "jpg" in caption:
        (parsed,) = parser.analyse([caption])
        assert parser.spans(caption, parsed) == [("dog", 8, 11)]  # not the one in the file's name


def test_an_attribute_begins_the_span_of_its_name():
    attributes = Parser(PoolSettings(attributes=True))
    found = spans(attributes, "A small red car next to a dog.")
    assert found == [
        ("car", "car"),
        ("small car", "small red car"),
        ("red car", "red car"),
        ("dog", "dog"),
    ]


def test_captions_that_are_read_alike_have_spans_of_their_own(parser):
    alike = ["a dog", "A dog", "<b>a dog</b>"]
    parsed = parser.analyse(alike)
    assert [parser.spans(c, p) for c, p in zip(alike, parsed, strict=True)] == [
        [("dog", 2, 5)],
        [("dog", 2, 5)],
        [("dog", 5, 8)],
    ]


@given(st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=400, deadline=None)
def test_a_traced_text_becomes_what_a_plain_one_does(caption):
    traced = Traced(caption)
    clean(traced)
    plain = clean_caption(caption, len(caption))
    assert traced.now == plain
    assert len(traced.starts) == len(traced.ends) == len(plain)
    assert traced.starts == sorted(traced.starts)
    assert traced.ends == sorted(traced.ends)
    assert all(0 <= a <= b <= len(caption) for a, b in zip(traced.starts, traced.ends, strict=True))
    for i, c in enumerate(plain):
        if c.isascii() and c.isalnum() and traced.ends[i] - traced.starts[i] == 1:
            assert (
                caption[traced.starts[i]].lower() in (c, c.lower()) or not caption[traced.starts[i]].isascii()
            )
    if is_as_written(caption, plain):
        assert traced.starts == list(range(len(plain)))
