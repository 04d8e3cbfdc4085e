"""Tagged tokens of a caption -> concept names. Pure: word lists and a singular function in, names out.

1. A fixed name of several words (compounds.txt) is found first, longest first, whatever its words' tags.
2. Else a name is a run of nouns. A plural, a possessive, punctuation or a fixed name ends it; an "-ing" word
   that is no visible thing, inside a run, is a mistagged verb and parts it ("zebra standing field").
3. Proper nouns are left out, but for those that capitalised.txt lists, common nouns in lower case, and the
   kind of place at the end of a name ("Brooklyn Bridge": landmarks.txt).
4. The last word is singularised, aliases are resolved.
5. A last word that is no visible thing is rejected with its reason and leaves the words before it ("kitchen
   area" names a kitchen); words that only say where, how many, whose or of what colour are taken off the
   front ("background tree").
6. At most the last three words of a run are kept.
"""

from __future__ import annotations

from collections.abc import Callable

from concept_pool.lemma import IRREGULAR_PLURALS
from concept_pool.lexicon import FRONT_REASONS, Lexicon

MAX_WORDS = 3
_COMMON = frozenset({"NN", "NNS"})
_PROPER = frozenset({"NNP", "NNPS"})
_PLURAL = frozenset({"NNS", "NNPS"})
_VERBS = frozenset({"VB", "VBP"})
_NO_NOUN = frozenset({"JJ", "RB", "VB", "VBP", "VBN", "VBD"})
_AFTER_NOUN = frozenset({",", ".", "IN", "VBZ", "VBD"})
_DETERMINERS = frozenset({"DT", "PRP$", "POS"})
_ADJECTIVES = frozenset({"JJ", "VBN"})
_BETWEEN_ADJECTIVES = frozenset({",", "and"})

#: What follows a noun that describes another one: "cream colored couch", "heart shaped box".
_LIKENESS = frozenset(
    ("colored", "coloured", "shaped", "sized", "themed", "flavored", "flavoured", "style", "styled",
     "scented", "patterned", "haired")
)  # fmt: skip

Token = tuple[str, str]
#: A name and the tokens that say it: (name, first, one after the last).
Place = tuple[str, int, int]
Rejects = dict[tuple[str, str], None]


class NameReader:
    """Reads the names of one caption at a time. `singular(word, plural)` gives the singular of a noun."""

    def __init__(
        self, lexicon: Lexicon, singular: Callable[[str, bool], str], attributes: bool = False
    ) -> None:
        self.lexicon = lexicon
        self.singular = singular
        self.attributes = attributes
        self.known_nouns: frozenset[str] = getattr(singular, "index", frozenset())
        self._longest: dict[str, int] = {}
        for compound in lexicon.compounds:
            first, length = compound.split()[0], len(compound.split())
            self._longest[first] = max(length, self._longest.get(first, 0))

    def read(self, tokens: list[Token]) -> tuple[list[str], list[tuple[str, str]], list[Place]]:
        """(names, rejected (word, reason), places) of a caption.

        Names and rejected words are unique, in order of appearance; places are all of those where a name stands.
        """
        places: list[Place] = []
        rejected: Rejects = {}
        words = [word.lower() for word, _ in tokens]
        i = end = 0
        while i < len(tokens):
            fixed = self._fixed_length(words, i)
            if not fixed and 0 < i == end and self._is_stray_verb(words[i]):
                i += 1
                continue
            if not fixed and not self._starts_run(tokens, words, i, rejected):
                i += 1
                continue
            end = self._run_end(tokens, words, i, fixed)
            if not (not fixed and end < len(tokens) and self._joins_fixed(tokens, words, end)):
                place = self._name(tokens, words, i, end, fixed, rejected)
                if place:
                    places.append(place)
                    if self.attributes:
                        name, _, stop = place
                        found = self._adjectives(tokens, words, i)
                        places += [(f"{words[at]} {name}", at, stop) for at in found]
            i = end
        return list(dict.fromkeys([name for name, _, _ in places])), list(rejected), places

    def _fixed_length(self, words: list[str], start: int) -> int:
        """Tokens of the longest fixed name that starts here; 0: none does."""
        for length in range(min(self._longest.get(words[start], 0), len(words) - start), 1, -1):
            end = start + length
            front = words[start : end - 1]
            for last in (words[end - 1], self.singular(words[end - 1], True)):
                if " ".join([*front, last]) in self.lexicon.compounds:
                    return length
        return 0

    def _starts_run(self, tokens: list[Token], words: list[str], i: int, rejected: Rejects) -> bool:
        if tokens[i][1] in _NO_NOUN and self._is_mistagged(tokens, words[i], i):
            return True
        if words[i + 1 : i + 2] and words[i + 1] in _LIKENESS and tokens[i][1] != "NNS":
            return False
        if self._is_noun(tokens[i], words[i], rejected):
            return True
        is_landmark = self.singular(words[i], tokens[i][1] == "NNPS") in self.lexicon.landmarks
        if tokens[i][1] in _PROPER and is_landmark and i > 0 and tokens[i - 1][1] in _PROPER:
            rejected.pop((words[i], "proper noun"), None)
            return True
        return False

    def _is_mistagged(self, tokens: list[Token], word: str, i: int) -> bool:
        """Irregular plurals are nouns; so is a known noun between a determiner and where a noun ends."""
        if word in IRREGULAR_PLURALS:
            return True
        if word not in self.known_nouns or word in self.lexicon.not_visible:
            return False
        if not (i > 0 and tokens[i - 1][1] in _DETERMINERS):
            return False
        return tokens[i][1] in _VERBS or i + 1 == len(tokens) or tokens[i + 1][1] in _AFTER_NOUN

    def _is_noun(self, token: Token, word: str, rejected: Rejects) -> bool:
        text, tag = token
        if tag in _COMMON:
            return _is_word(word)
        if tag not in _PROPER or not _is_word(word):
            return False
        lexicon = self.lexicon
        if word in lexicon.capitalised or word in lexicon.aliases:
            return True
        if text == word and self.singular(word, tag == "NNPS") in self.known_nouns:
            return True
        rejected[(word, "proper noun")] = None
        return False

    def _run_end(self, tokens: list[Token], words: list[str], start: int, fixed: int) -> int:
        """End of the run of nouns that starts here (with a fixed name of `fixed` tokens, if not 0)."""
        end = start + (fixed or 1)
        while (
            end < len(tokens)
            and not self._is_plural(tokens, words, end - 1)
            and self._is_noun(tokens[end], words[end], {})
            and not self._fixed_length(words, end)
            and not self._is_stray_verb(words[end])
        ):
            end += 1
        return end

    def _joins_fixed(self, tokens: list[Token], words: list[str], end: int) -> bool:
        """Whether a fixed name follows directly, so that the run before it only says more about it."""
        return not self._is_plural(tokens, words, end - 1) and bool(self._fixed_length(words, end))

    def _is_plural(self, tokens: list[Token], words: list[str], i: int) -> bool:
        return tokens[i][1] in _PLURAL or words[i] in IRREGULAR_PLURALS

    def _is_stray_verb(self, word: str) -> bool:
        return word.endswith("ing") and word in self.lexicon.not_visible

    def _name(
        self, tokens: list[Token], words: list[str], start: int, end: int, fixed: int, rejected: Rejects
    ) -> Place | None:
        """The concept of tokens[start:end] (the first `fixed` are a fixed name) and those of them that it is made of.

        None if all is rejected.
        """
        hidden, alias_of = self.lexicon.not_visible, self.lexicon.aliases
        parts = words[start:end]
        if parts == ["glasses"] and words[end : end + 1] != ["of"]:
            return "glasses", start, end
        if not (fixed == len(parts) and " ".join(parts) in self.lexicon.compounds):
            parts[-1] = self.singular(parts[-1], tokens[end - 1][1] in _PLURAL or fixed == len(parts))
        while parts:
            name = " ".join(parts)
            whole = alias_of.get(name, name)
            if whole in hidden:
                rejected[(whole, hidden[whole])] = None
                if len(parts) > 1:
                    return None
            last = _last_alias(parts[-1], alias_of)
            if len(parts) <= fixed or last not in hidden:
                break
            rejected[(last, hidden[last])] = None
            parts = parts[:-1]
        if not parts:
            return None
        name, kept = self._front_and_alias(parts, fixed)
        end = start + len(parts)
        return name, end - kept, end

    def _front_and_alias(self, parts: list[str], fixed: int) -> tuple[str, int]:
        """The name, and how many of the last parts it is made of."""
        hidden, alias_of = self.lexicon.not_visible, self.lexicon.aliases
        if not fixed:
            parts = parts[-MAX_WORDS:]
            while (
                len(parts) > 1 and hidden.get(parts[0]) in FRONT_REASONS and " ".join(parts) not in alias_of
            ):
                parts = parts[1:]
        elif len(parts) > max(fixed, MAX_WORDS):
            parts = parts[-MAX_WORDS:]
        name = " ".join(parts)
        if name in alias_of:
            return alias_of[name], len(parts)
        name = " ".join([*parts[:-1], _last_alias(parts[-1], alias_of)])
        return alias_of.get(name, name), len(parts)

    def _adjectives(self, tokens: list[Token], words: list[str], start: int) -> list[int]:
        """Tokens directly before tokens[start] that are adjectives and say what the thing looks like, in order."""
        found = []
        i = start - 1
        while i >= 0 and (tokens[i][1] in _ADJECTIVES or words[i] in _BETWEEN_ADJECTIVES):
            hidden = self.lexicon.not_visible.get(words[i])
            if tokens[i][1] in _ADJECTIVES and _is_word(words[i]) and hidden in (None, "colour", "adjective"):
                found.append(i)
            i -= 1
        return found[::-1]


def _last_alias(word: str, alias_of: dict[str, str]) -> str:
    """The alias of a last word, where it is one word too ("leather sofa" is a "leather couch")."""
    alias = alias_of.get(word, word)
    return word if " " in alias else alias


def _is_word(word: str) -> bool:
    return len(word) > 1 and word.replace("'", "").replace("-", "").isalpha()
