"""One caption an image, and its spans."""

from __future__ import annotations

import pytest

from exports.grounding import best_caption, grounded, grounded_all
from exports.pairs import Mention, Pair

CAPTIONS = ["a dog", "the dog and a cat on dog food", "sky"]


def pair(region: int, concept: str, *mentions: tuple[int, int, int]) -> Pair:
    return Pair(region, (0, 0, 1, 1), 7, concept, 0.5, 0.5, 1.0, tuple(Mention(*m) for m in mentions))


DOG = pair(0, "dog", (0, 2, 5), (1, 4, 7))
CAT = pair(2, "cat", (1, 14, 17))
SAND = pair(5, "sand")


def test_the_caption_that_names_most_pairs_is_chosen_and_ties_go_to_the_first():
    assert best_caption(CAPTIONS, [DOG, CAT, SAND]) == 1
    assert best_caption(CAPTIONS, [DOG, SAND]) == 0
    assert best_caption(CAPTIONS, []) == 0


def test_pairs_that_the_caption_does_not_name_are_left_out():
    found = grounded(CAPTIONS, [DOG, CAT, SAND])
    assert [(p.concept, [found.caption[a:b] for a, b in spans]) for p, spans in found.pairs] == [
        ("dog", ["dog"]),
        ("cat", ["cat"]),
    ]


@pytest.mark.parametrize("end", ["", ".", " ", ". ", "!"])
def test_names_that_a_caption_lacks_stand_behind_it_once(end):
    captions = [text + end for text in CAPTIONS]
    pairs = [DOG, SAND, CAT, pair(6, "sand"), pair(8, "blue sky")]
    found = grounded_all(captions, pairs)
    assert found.caption.startswith(captions[1].rstrip())
    assert found.caption.endswith(" sand. blue sky.")
    assert found.caption.count("sand") == 1
    for p, spans in found.pairs:
        assert {found.caption[a:b] for a, b in spans} == {p.concept}
    assert [p for p, _ in found.pairs] == pairs


def test_a_caption_that_names_everything_stays_as_it_is():
    assert grounded_all(CAPTIONS, [DOG, CAT]).caption == CAPTIONS[1]
    assert grounded_all(CAPTIONS, []).caption == CAPTIONS[0]
