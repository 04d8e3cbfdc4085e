"""COCO's names."""

from __future__ import annotations

import pytest

from evaluation import coco_names


@pytest.mark.parity(55)
def test_the_open_vocabulary_split_leaves_fifteen_names_out():
    assert (len(coco_names.BASE), len(coco_names.NOVEL)) == (48, 17)
    assert not coco_names.BASE & coco_names.NOVEL
    assert len(set(coco_names.ACCEPTED) - coco_names.BASE - coco_names.NOVEL) == 15


def test_words_are_lower_case_and_stand_once():
    for name, words in coco_names.ACCEPTED.items():
        assert len(set(words)) == len(words), name
        assert all(word == word.lower().strip() for word in words), name
    assert "kitten" in coco_names.ACCEPTED["cat"]
