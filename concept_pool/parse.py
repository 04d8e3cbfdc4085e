"""Captions -> the names of the visible things that they mention.

The rules, on the tagger's output (docs/concept_pool.md explains each with examples):

1. Fixed names of several words (compounds.txt) are found first, longest first, whatever the tags of their words.
2. Else a name is a run of nouns, at most three words, whose last word is singularised; a plural, a possessive,
   punctuation or a word with a digit ends a run.
3. Proper nouns are left out, unless they are written in lower case or listed as common (capitalised.txt).
4. Aliases are resolved; what is on the not-visible list is rejected with its reason. A rejected last word that only says
   where or how much ("kitchen area") leaves the words before it, a rejected modifier ("background tree") the words after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from concept_pool.clean import clean_caption
from concept_pool.lexicon import TRANSPARENT_REASONS, Lexicon
from concept_pool.settings import PoolSettings
from concept_pool.tagger import Tagger

MAX_WORDS = 3
_COMMON = frozenset({"NN", "NNS"})
_PROPER = frozenset({"NNP", "NNPS"})
_PLURAL = frozenset({"NNS", "NNPS"})
_ADJECTIVES = frozenset({"JJ", "VBN"})

Token = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one caption names: `names` in order of appearance, unique; `rejected` pairs of (word, reason), unique."""

    names: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]


_NOTHING = Parsed((), ())


class Parser:
    """Parses captions by `settings`. Cheap to make and to pickle; the spaCy pipeline is loaded at the first caption."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.lexicon = Lexicon.load(settings)
        self._tagger: Tagger | None = None
        self._cache: OrderedDict[str, Parsed] = OrderedDict()
        self._first_words: dict[str, int] = {}
        for compound in self.lexicon.compounds:
            first, length = compound.split()[0], len(compound.split())
            self._first_words[first] = max(length, self._first_words.get(first, 0))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tagger": None, "_cache": OrderedDict()}

    @property
    def tagger(self) -> Tagger:
        if self._tagger is None:
            self._tagger = Tagger()
        return self._tagger

    def parse(self, captions: list[str]) -> list[list[str]]:
        """Concept names of every caption, unique, in order of appearance."""
        return [list(parsed.names) for parsed in self.analyse(captions)]

    def analyse(self, captions: Sequence[str]) -> list[Parsed]:
        """Names and rejected words of every caption. A repeated caption is parsed once (`cache_captions`)."""
        texts = [clean_caption(caption, self.settings.max_caption_chars) for caption in captions]
        known: dict[str, Parsed] = {"": _NOTHING}
        new: list[str] = []
        for text in texts:
            if text in known:
                continue
            cached = self._cache.get(text)
            if cached is None:
                new.append(text)
                cached = _NOTHING
            else:
                self._cache.move_to_end(text)
            known[text] = cached
        for text, tokens in zip(new, self.tagger.tag(new) if new else [], strict=True):
            known[text] = self._read(tokens)
            self._remember(text, known[text])
        return [known[text] for text in texts]

    def _remember(self, text: str, parsed: Parsed) -> None:
        if self.settings.cache_captions:
            self._cache[text] = parsed
            if len(self._cache) > self.settings.cache_captions:
                self._cache.popitem(last=False)

    def _read(self, tokens: list[Token]) -> Parsed:
        names: dict[str, None] = {}
        rejected: dict[tuple[str, str], None] = {}
        words = [word.lower() for word, _ in tokens]
        i = 0
        while i < len(tokens):
            length = self._compound_length(tokens, words, i)
            if not length and not self._is_noun(tokens[i], words[i], rejected):
                i += 1
                continue
            end = i + (length or self._run_length(tokens, words, i))
            name = self._name(tokens, words, i, end, bool(length), rejected)
            if name:
                names[name] = None
                if self.settings.attributes:
                    for adjective in self._adjectives(tokens, words, i):
                        names[f"{adjective} {name}"] = None
            i = end
        return Parsed(tuple(names), tuple(rejected))

    def _compound_length(self, tokens: list[Token], words: list[str], start: int) -> int:
        """Tokens of the longest fixed name that starts here; 0: none does."""
        longest = self._first_words.get(words[start], 0)
        for length in range(min(longest, len(words) - start), 1, -1):
            end = start + length
            last = self._singular(words[end - 1], "NNS")
            for word in (words[end - 1], last):
                if " ".join([*words[start : end - 1], word]) in self.lexicon.compounds:
                    return length
        return 0

    def _is_noun(self, token: Token, word: str, rejected: dict[tuple[str, str], None]) -> bool:
        text, tag = token
        if tag in _COMMON:
            return _is_word(word)
        if tag not in _PROPER or not _is_word(word):
            return False
        if text == word or word in self.lexicon.capitalised:
            return True
        rejected[(word, "proper noun")] = None
        return False

    def _run_length(self, tokens: list[Token], words: list[str], start: int) -> int:
        end = start + 1
        while (
            end < len(tokens)
            and tokens[end - 1][1] not in _PLURAL
            and self._is_noun(tokens[end], words[end], {})
            and not self._compound_length(tokens, words, end)
        ):
            end += 1
        return end - start

    def _name(
        self,
        tokens: list[Token],
        words: list[str],
        start: int,
        end: int,
        fixed: bool,
        rejected: dict[tuple[str, str], None],
    ) -> str | None:
        """The concept of tokens[start:end], or None with the reason added to `rejected`."""
        hidden = self.lexicon.not_visible
        parts = words[start:end]
        plural_form = parts[-1]
        if fixed and " ".join(parts) in self.lexicon.compounds:
            singular = parts[-1]
        else:
            singular = self._singular(parts[-1], tokens[end - 1][1])
        parts = [*parts[:-1], singular]
        if plural_form == "glasses" and len(parts) == 1 and words[end : end + 1] != ["of"]:
            parts = ["glasses"]
        while parts:
            name = self.lexicon.alias_of(" ".join(parts[-MAX_WORDS:]))
            reason = hidden.get(name) or (None if fixed else hidden.get(self.lexicon.alias_of(parts[-1])))
            if reason is None:
                break
            rejected[(name if name in hidden else parts[-1], reason)] = None
            if fixed or reason not in TRANSPARENT_REASONS:
                return None
            parts = parts[:-1]
        if not parts:
            return None
        if not fixed:
            parts = parts[-MAX_WORDS:]
            while len(parts) > 1 and hidden.get(parts[0]) in TRANSPARENT_REASONS:
                parts = parts[1:]
            parts[-1] = self.lexicon.alias_of(parts[-1]) if len(parts) > 1 else parts[-1]
        return self.lexicon.alias_of(" ".join(parts))

    def _singular(self, word: str, tag: str) -> str:
        return self.tagger.singular(word, tag in _PLURAL)

    def _adjectives(self, tokens: list[Token], words: list[str], start: int) -> list[str]:
        """Adjectives directly before tokens[start] that say what the thing looks like."""
        found = []
        i = start - 1
        while i >= 0 and (tokens[i][1] in _ADJECTIVES or words[i] in {",", "and"}):
            if tokens[i][1] in _ADJECTIVES and _is_word(words[i]) and words[i] not in self.lexicon.not_visible:
                found.append(words[i])
            i -= 1
        return found[::-1]


def _is_word(word: str) -> bool:
    return len(word) > 1 and word.replace("'", "").replace("-", "").isalpha()
