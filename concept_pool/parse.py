"""Captions -> the names of the visible things that they mention. docs/concept_pool.md shows every rule at
work.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from concept_pool.clean import clean, is_as_written
from concept_pool.dependencies import DependencyParser
from concept_pool.edits import Text, Traced
from concept_pool.lexicon import Lexicon
from concept_pool.names import NameReader, Place, Token
from concept_pool.phrases import Phrase, phrases_of
from concept_pool.settings import PoolSettings
from concept_pool.tagger import Tagger

#: A name and where it stands: (name, first character, one after the last).
Span = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a caption names: `names` in order of appearance, `rejected` (word, reason); both unique.

    text: the caption as the tagger read it. spans: every place of a name in it; `Parser.spans` has those in the caption.
    phrases: the noun phrases around names (`pool.phrases`), in the text too; `Parser.phrases` has those in the caption.
    """

    names: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    text: str = ""
    spans: tuple[Span, ...] = ()
    phrases: tuple[Phrase, ...] = ()


_NOTHING = Parsed((), ())


class Parser:
    """Parses captions by `settings`. Cheap to make and to pickle: spaCy is loaded at the first caption."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.lexicon = Lexicon.load(settings)
        self._spelling = self.lexicon.spelling_pattern()
        self._spelling_starts = {form.split()[0] for form in self.lexicon.spellings}
        self._tagger: Tagger | None = None
        self._reader: NameReader | None = None
        self._dependencies: DependencyParser | None = None
        self._cache: OrderedDict[str, Parsed] = OrderedDict()

    def __reduce__(self) -> tuple[type[Parser], tuple[PoolSettings]]:
        return Parser, (self.settings,)

    @property
    def tagger(self) -> Tagger:
        if self._tagger is None:
            self._tagger = Tagger()
            self._reader = NameReader(self.lexicon, self._tagger.singular, self.settings.attributes)
        return self._tagger

    def parse(self, captions: list[str]) -> list[list[str]]:
        """Concept names of every caption, unique, in order of appearance."""
        return [list(parsed.names) for parsed in self.analyse(captions)]

    def analyse(self, captions: Sequence[str]) -> list[Parsed]:
        """Names and rejected words of every caption. A repeated caption is parsed once (`cache_captions`)."""
        texts = [self.clean(caption) for caption in captions]
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
            assert self._reader is not None
            names, rejected, places = self._reader.read(tokens)
            spans = _in_characters(text, tokens, places) if places else ()
            known[text] = Parsed(tuple(names), tuple(rejected), text, spans, self._phrases(text, spans))
            self._remember(text, known[text])
        return [known[text] for text in texts]

    def clean(self, caption: str) -> str:
        """The text that the tagger reads: without debris, in the usual case, one spelling a word."""
        text = Text(caption[: self.settings.max_caption_chars])
        self._edit(text)
        return text.now

    def _edit(self, text: Text) -> None:
        clean(text)
        if not self._spelling_starts.isdisjoint(text.now.lower().split()):
            text.sub(self._spelling, lambda found: self.lexicon.spellings[found[0].lower()])

    def spans(self, caption: str, parsed: Parsed) -> list[Span]:
        """Every place of a name in the caption as written: (name, start, end), `caption[start:end]` being how it says it.

        parsed: what `analyse` gave for this caption.
        """
        if not parsed.spans or is_as_written(caption, parsed.text):
            return list(parsed.spans)
        text = Traced(caption[: self.settings.max_caption_chars])
        self._edit(text)
        return [(name, *text.span(start, end)) for name, start, end in parsed.spans]

    def phrases(self, caption: str, parsed: Parsed) -> list[Phrase]:
        """The noun phrases around names, in the caption as written; none without `pool.phrases`.

        parsed: what `analyse` gave for this caption.
        """
        if not parsed.phrases or is_as_written(caption, parsed.text):
            return list(parsed.phrases)
        text = Traced(caption[: self.settings.max_caption_chars])
        self._edit(text)
        return [
            Phrase(
                text.span(found.head, found.head + 1)[0],
                text.span(*found.chunk),
                text.span(*found.expression) if found.expression else None,
            )
            for found in parsed.phrases
        ]

    def _phrases(self, text: str, spans: Sequence[Span]) -> tuple[Phrase, ...]:
        if not self.settings.phrases or not spans:
            return ()
        if self._dependencies is None:
            self._dependencies = DependencyParser(self.settings.phrase_pipeline)
        return phrases_of(self._dependencies(text), [(start, end) for _, start, end in spans])

    def _remember(self, text: str, parsed: Parsed) -> None:
        if self.settings.cache_captions:
            self._cache[text] = parsed
            if len(self._cache) > self.settings.cache_captions:
                self._cache.popitem(last=False)


def _in_characters(text: str, tokens: Sequence[Token], places: Sequence[Place]) -> tuple[Span, ...]:
    """Places of tokens as places of characters: a text is its tokens, one after another, with blanks between some."""
    ends, at = [], 0
    find = text.index
    for word, _ in tokens:
        at = find(word, at) + len(word)
        ends.append(at)
    return tuple((name, ends[first] - len(tokens[first][0]), ends[stop - 1]) for name, first, stop in places)
