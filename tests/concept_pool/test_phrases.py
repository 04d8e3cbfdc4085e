"""Noun phrases: GRIT's rules on parses written by hand, and the pipeline that is installed."""

from __future__ import annotations

import pytest
import spacy
from spacy.tokens import Doc

from concept_pool.dependencies import load_pipeline
from concept_pool.parse import Parser
from concept_pool.phrases import phrases_of
from concept_pool.settings import PoolSettings
from tests.concept_pool.labelled import read_labelled

VOCAB = spacy.blank("en").vocab


def parsed(text: str) -> Doc:
    """A Doc of `word/POS/dependency/head` tokens; a head is a token's number."""
    words, tags, deps, heads = zip(*(token.split("/") for token in text.split()), strict=True)
    return Doc(VOCAB, words=list(words), pos=list(tags), deps=list(deps), heads=list(map(int, heads)))


def said(doc: Doc, *names: str) -> list[tuple[str, str | None]]:
    """(chunk, expression) of the phrases around these names."""
    places = [(token.idx, token.idx + len(token)) for token in doc if token.text in names]
    return [
        (doc.text[slice(*p.chunk)], doc.text[slice(*p.expression)] if p.expression else None)
        for p in phrases_of(doc, places)
    ]


FIELD = (
    "a/DET/det/1 dog/NOUN/ROOT/1 in/ADP/prep/1 a/DET/det/4 field/NOUN/pobj/2 of/ADP/prep/4 flowers/NOUN/pobj/5 ././."
).replace("././.", "./PUNCT/punct/1")


def test_the_example_of_the_paper():
    assert said(parsed(FIELD), "dog", "field", "flowers") == [
        ("a dog", "a dog in a field of flowers"),
        ("a field", None),
        ("flowers", None),
    ]


def test_a_chunk_that_names_nothing_hides_nothing():
    assert said(parsed(FIELD), "field", "flowers") == [("a field", "a field of flowers"), ("flowers", None)]
    assert said(parsed(FIELD), "flowers") == [("flowers", "flowers")]
    assert said(parsed(FIELD)) == []


def test_a_chunk_that_is_joined_to_another_one_does_not_grow():
    doc = parsed(
        "a/DET/det/1 man/NOUN/ROOT/1 and/CCONJ/cc/1 a/DET/det/4 woman/NOUN/conj/1 on/ADP/prep/4 "
        "a/DET/det/7 bench/NOUN/pobj/5"
    )
    assert said(doc, "man", "woman", "bench") == [
        ("a man", "a man"),
        ("a woman", "a woman"),
        ("a bench", "a bench"),
    ]


def test_the_object_of_a_verb_is_no_part_of_its_subject():
    doc = parsed(
        "a/DET/det/2 brown/ADJ/amod/2 dog/NOUN/nsubj/3 chases/VERB/ROOT/3 the/DET/det/6 red/ADJ/amod/6 car/NOUN/dobj/3 "
        "next/ADV/advmod/6 to/ADP/prep/7 the/DET/det/10 tree/NOUN/pobj/8"
    )
    assert said(doc, "dog", "car", "tree") == [
        ("a brown dog", "a brown dog"),
        ("the red car", "the red car next to the tree"),
        ("the tree", None),
    ]


def test_an_expression_ends_with_a_word():
    doc = parsed("a/DET/det/1 dog/NOUN/ROOT/1 sleeping/VERB/acl/1 ,/PUNCT/punct/1 and/CCONJ/cc/1")
    assert said(doc, "dog") == [("a dog", "a dog sleeping")]
    doc = parsed("cases/NOUN/ROOT/0 (/PUNCT/punct/2 pink/ADJ/appos/0 )/PUNCT/punct/0 !/PUNCT/punct/0")
    assert said(doc, "cases") == [("cases", "cases ( pink )")]


@pytest.fixture(scope="module")
def parser():
    return Parser(PoolSettings(phrases=True))


def test_phrases_stand_in_the_caption_as_written(parser):
    caption = "IMG_2034.JPG A  brown dog next to a caf&eacute; &amp; a stop-sign…"
    (found,) = parser.analyse([caption])
    phrases = parser.phrases(caption, found)
    assert [caption[slice(*p.chunk)] for p in phrases] == ["A  brown dog", "a caf&eacute;", "a stop-sign"]
    assert all(p.chunk[0] <= p.head < p.chunk[1] for p in phrases)
    plain = Parser(PoolSettings())
    assert plain.phrases(caption, plain.analyse([caption])[0]) == []


@pytest.mark.parametrize("caption", ['"a dog" and (a cat in a box)', "...a dog...", "(dog) [cat]"])
def test_neither_chunk_nor_expression_has_punctuation_at_its_ends(parser, caption):
    (found,) = parser.analyse([caption])
    phrases = parser.phrases(caption, found)
    assert phrases
    for place in (place for p in phrases for place in (p.chunk, p.expression) if place):
        said = caption[slice(*place)]
        assert said == said.strip('".,([])'), said


def test_most_names_of_the_labelled_captions_head_a_phrase(parser):
    captions = [row.caption for row in read_labelled()][:60]
    n_names = n_headed = 0
    for caption, found in zip(captions, parser.analyse(captions), strict=True):
        spans, phrases = parser.spans(caption, found), parser.phrases(caption, found)
        n_names += len(spans)
        n_headed += sum(any(start <= p.head < end for p in phrases) for _, start, end in spans)
        kept = [p.expression for p in phrases if p.expression]
        for p in phrases:
            assert p.expression is None or (p.expression[0] <= p.chunk[0] and p.chunk[1] <= p.expression[1])
            assert any(a <= p.chunk[0] and p.chunk[1] <= b for a, b in kept)
    assert n_headed / n_names > 0.85


def test_a_pipeline_that_is_not_there_or_has_no_parser_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^pool\.phrase_pipeline: .*'en_no_such' is not installed"):
        load_pipeline("en_no_such")
    spacy.blank("en").to_disk(tmp_path / "bare")
    with pytest.raises(ValueError, match="no dependency parser"):
        load_pipeline(str(tmp_path / "bare"))
