"""Singulars of nouns: spaCy's English lemma tables, applied to a word type once.

spaCy's own lemmatizer needs a part of speech on every token of every caption; a noun's singular depends on
the word alone, so it is looked up by type and remembered.
"""

from __future__ import annotations

from typing import Any

#: Plurals that are plurals under any tag.
IRREGULAR_PLURALS = frozenset(
    [
        "men",
        "women",
        "children",
        "geese",
        "mice",
        "oxen",
        "feet",
        "teeth",
        "knives",
        "wives",
        "wolves",
        "calves",
    ]
)
#: Plurals of which WordNet knows a rarer spelling that the rules would find first (`lense`, `grannie`).
_PREFERRED = {"lenses": "lens", "grannies": "granny", "hankies": "hanky", "panties": "panty"}
#: In this order: where both `cross` and `crosse` are nouns, `crosses` are the former; `vases` are no `vas`.
_PLURAL_RULES = (
    ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("zes", "z"),
    ("s", ""), ("ves", "f"), ("ves", "fe"), ("ies", "y"), ("men", "man"), ("ses", "s"), ("oes", "o"),
)  # fmt: skip
_REMEMBERED = 100_000
#: For plurals that the tables do not hold, which are new words ("selfies") or misspelt ones.
_UNKNOWN_RULES = (
    ("ches", "ch"),
    ("shes", "sh"),
    ("sses", "ss"),
    ("xes", "x"),
    ("zes", "z"),
    ("s", ""),
)


class Singulars:
    """word -> singular, in lower case. `index`: known nouns; `exceptions`: irregular plurals."""

    def __init__(self, index: frozenset[str], exceptions: dict[str, str]) -> None:
        self.index = index
        self.exceptions = exceptions
        self._seen: dict[str, str] = {}

    @classmethod
    def from_spacy(cls, nlp: Any) -> Singulars:
        """The tables of a loaded English pipeline that has the rule lemmatizer; ValueError if it has none."""
        if "lemmatizer" not in nlp.component_names or not nlp.get_pipe("lemmatizer").lookups.has_table(
            "lemma_index"
        ):
            raise ValueError(
                "the spaCy pipeline has no rule lemmatizer; en_core_web_sm, _md and _lg have one"
            )
        lookups = nlp.get_pipe("lemmatizer").lookups
        exceptions = {
            plural: forms[0] for plural, forms in lookups.get_table("lemma_exc")["noun"].items() if forms
        }
        return cls(frozenset(lookups.get_table("lemma_index")["noun"]), exceptions)

    def __call__(self, word: str, plural: bool) -> str:
        """The singular of `word`; what the tagger calls singular changes only if it is no known noun."""
        is_plural = plural or word in IRREGULAR_PLURALS
        if not is_plural and (word in self.index or not self._looks_plural(word)):
            return word
        found = self._seen.get(word)
        if found is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            found = self._seen[word] = self._singular(word)
        return found

    def _looks_plural(self, word: str) -> bool:
        return word in self.exceptions or (word.endswith("s") and not word.endswith(("ss", "us", "is")))

    def _singular(self, word: str) -> str:
        if word in self.exceptions:
            return self.exceptions[word]
        if word in _PREFERRED:
            return _PREFERRED[word]
        for end, new in _PLURAL_RULES:
            form = word[: -len(end)] + new
            if word.endswith(end) and form in self.index:
                return form
        if word in self.index or word.endswith(("ss", "us", "is")):
            return word
        return next(
            (word[: -len(e)] + new for e, new in _UNKNOWN_RULES if word.endswith(e) and len(word) > 3), word
        )
