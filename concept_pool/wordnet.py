"""Makes `data/abstract_nouns.csv` and `data/proper_nouns.txt` from WordNet 3.0 (Debian: wordnet-base).

python -m concept_pool.wordnet /usr/share/wordnet

A noun is abstract if its most frequent sense is one (`_REASONS` lists WordNet's lexicographer files that
are), less than a fifth of its uses are a visible thing's, and less than half those of a visible thing, a
group, a place, a phenomenon or a shape; it is proper if every sense is written with a capital.
not_visible.csv and capitalised.txt, written by hand, go before both.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib import resources
from pathlib import Path

_LEXICOGRAPHER = [
    "adj",
    "adj",
    "adv",
    "tops",
    "act",
    "animal",
    "artifact",
    "attribute",
    "body",
    "cognition",
    "communication",
    "event",
    "feeling",
    "food",
    "group",
    "location",
    "motive",
    "object",
    "person",
    "phenomenon",
    "plant",
    "possession",
    "process",
    "quantity",
    "relation",
    "shape",
    "state",
    "substance",
    "time",
]
_VISIBLE = frozenset(["animal", "artifact", "body", "food", "object", "person", "plant", "substance"])
_PLACES = frozenset(["group", "location", "phenomenon", "shape", "tops"])
_REASONS = {
    "act": "activity", "attribute": "attribute", "cognition": "abstract", "communication": "communication",
    "event": "event", "feeling": "abstract", "motive": "abstract", "possession": "abstract",
    "process": "abstract", "quantity": "quantity",
    "relation": "abstract", "state": "state", "time": "time",
}  # fmt: skip


def noun_classes(folder: Path) -> tuple[dict[str, str], list[str]]:
    """({abstract noun: reason}, [proper nouns]) of a WordNet database, single words only."""
    synsets = {}
    for line in _rows(folder / "data.noun"):
        fields = line.split()
        words = [fields[4 + 2 * i] for i in range(int(fields[3], 16))]
        synsets[fields[0]] = (_LEXICOGRAPHER[int(fields[1])], words)
    uses: dict[str, dict[int, int]] = defaultdict(dict)
    for line in _rows(folder / "cntlist.rev"):
        key, sense, count = line.split()
        if "%1:" in key:
            uses[key.split("%")[0]][int(sense)] = int(count)
    abstract, proper = {}, []
    for line in _rows(folder / "index.noun"):
        fields = line.split()
        word, found = fields[0], [synsets[offset] for offset in fields[-int(fields[2]) :]]
        if len(word) < 2 or not word.replace("-", "").isalpha():
            continue
        if not any(word in words for _, words in found):
            proper.append(word)
            continue
        weights = [(kind, uses[word].get(i, 0) + 0.5 / i) for i, (kind, _) in enumerate(found, start=1)]
        total = sum(weight for _, weight in weights)
        visible = sum(weight for kind, weight in weights if kind in _VISIBLE)
        placed = sum(weight for kind, weight in weights if kind in _PLACES)
        if found[0][0] in _REASONS and visible < 0.2 * total and visible + placed < 0.5 * total:
            abstract[word] = _REASONS[found[0][0]]
    return abstract, sorted(proper)


def _rows(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [line for line in file if not line.startswith(" ")]


def main(folder: str) -> None:
    abstract, proper = noun_classes(Path(folder))
    data = Path(str(resources.files("concept_pool").joinpath("data")))
    notice = "# Derived from WordNet 3.0 by `python -m concept_pool.wordnet`; see WORDNET_LICENSE.txt\n"
    rows = "".join(f"{word},{reason}\n" for word, reason in sorted(abstract.items()))
    (data / "abstract_nouns.csv").write_text(notice + rows, encoding="utf-8")
    (data / "proper_nouns.txt").write_text(notice + "\n".join(proper) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
