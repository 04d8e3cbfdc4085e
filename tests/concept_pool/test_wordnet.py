"""Which nouns of a WordNet database are abstract or proper: a database of nine words, made in code."""

from __future__ import annotations

from pathlib import Path

import pytest

from concept_pool.wordnet import noun_classes

#: Lexicographer files of WordNet, by number.
ACT, ARTIFACT, COGNITION, LOCATION, PERSON = 4, 6, 9, 15, 18


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    senses = {
        "idea": [COGNITION],
        "dog": [PERSON],
        "run": [ACT, ARTIFACT],  # seldom a thing: abstract
        "building": [ACT, ARTIFACT],  # mostly a thing, whatever stands first
        "paris": [LOCATION],
        "x": [COGNITION],  # one letter
        "a_b": [COGNITION],  # two words
    }
    uses = {("run", 1): 90, ("run", 2): 1, ("building", 1): 10, ("building", 2): 90}
    data, index, counts = ["  1 a licence line"], ["  1 a licence line"], []
    for word, kinds in senses.items():
        offsets = []
        for sense, kind in enumerate(kinds, start=1):
            offsets.append(f"{len(data):08d}")
            written = word.capitalize() if word == "paris" else word
            data.append(f"{offsets[-1]} {kind:02d} n 01 {written} 0 000 @ | what it is")
            if count := uses.get((word, sense)):
                counts.append(f"{word}%1:0{kind}:00:: {sense} {count}")
        index.append(f"{word} n {len(kinds)} 1 @ {len(kinds)} 0 {' '.join(offsets)}")
    counts.append("quick%3:00:00:: 1 5")  # no noun
    for name, rows in {"data.noun": data, "index.noun": index, "cntlist.rev": counts}.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    return tmp_path


def test_abstract_nouns_come_with_a_reason(folder: Path):
    abstract, _ = noun_classes(folder)
    assert abstract == {"idea": "abstract", "run": "activity"}


def test_a_word_always_written_with_a_capital_is_proper(folder: Path):
    _, proper = noun_classes(folder)
    assert proper == ["paris"]
