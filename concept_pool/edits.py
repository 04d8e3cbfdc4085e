"""A text that rules edit one after another, and the same with a memory of where each character stood at first.

The rules (concept_pool/clean.py, spellings) are written once, for both: `Text` is what captions are read by, `Traced` says
where in the caption as written a piece of the edited text comes from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping

Replacement = str | Callable[[re.Match[str]], str]
_BLANKS = re.compile(r"\s+")


class Text:
    """A text under edits; `now` is what has become of it. `now` may be assigned text of the same length."""

    __slots__ = ("now",)

    def __init__(self, text: str) -> None:
        self.now = text

    def sub(self, pattern: re.Pattern[str], replacement: Replacement) -> None:
        """Replaces every match. A replacement that is text is taken as it is, without group references."""
        self.now = pattern.sub(replacement, self.now)

    def translate(self, table: Mapping[int, str]) -> None:
        self.now = self.now.translate(table)

    def normalise(self) -> None:
        """Unicode's form NFKC."""
        self.now = unicodedata.normalize("NFKC", self.now)

    def collapse(self) -> None:
        """One blank for white space of any length, none at the ends."""
        self.now = " ".join(self.now.split())

    def strip(self, characters: str) -> None:
        self.now = self.now.strip(characters)

    def lower(self) -> None:
        self.now = self.now.lower()


class Traced(Text):
    """A text under edits that knows where its characters come from.

    Character i of `now` was written as [starts[i], ends[i]) of the text that it began with.
    """

    __slots__ = ("ends", "starts")

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.starts = list(range(len(text)))
        self.ends = list(range(1, len(text) + 1))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `now[start:end]`, which is not empty, stands in the text as it was."""
        return min(self.starts[start:end]), max(self.ends[start:end])

    def sub(self, pattern: re.Pattern[str], replacement: Replacement) -> None:
        self._replace(
            (m.start(), m.end(), replacement if isinstance(replacement, str) else replacement(m))
            for m in pattern.finditer(self.now)
        )

    def translate(self, table: Mapping[int, str]) -> None:
        self._replace((i, i + 1, table[ord(c)]) for i, c in enumerate(self.now) if ord(c) in table)

    def normalise(self) -> None:
        self._replace(
            (start, end, unicodedata.normalize("NFKC", self.now[start:end]))
            for start, end in _segments(self.now)
        )

    def collapse(self) -> None:
        self.sub(_BLANKS, " ")
        self.strip(" ")

    def strip(self, characters: str) -> None:
        start = len(self.now) - len(self.now.lstrip(characters))
        end = max(start, len(self.now.rstrip(characters)))
        self.now, self.starts, self.ends = self.now[start:end], self.starts[start:end], self.ends[start:end]

    def lower(self) -> None:
        if len(self.now.lower()) == len(self.now):
            self.now = self.now.lower()
        else:
            self._replace((i, i + 1, c.lower()) for i, c in enumerate(self.now))

    def _replace(self, edits: Iterable[tuple[int, int, str]]) -> None:
        """Replaces pieces (start, end, by what), in order. Of a piece that changes its length, what is alike at its ends
        keeps its places; the rest stands for the rest."""
        texts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for start, end, new in edits:
            old = self.now[start:end]
            head = tail = 0
            if len(new) != len(old):
                limit = min(len(new), len(old))
                while head < limit and new[head] == old[head]:
                    head += 1
                while tail < limit - head and new[-1 - tail] == old[-1 - tail]:
                    tail += 1
                first, last = start + head, end - tail
                n = len(new) - head - tail
                begin = self.starts[first] if first < len(self.starts) else self.ends[-1]
                stop = self.ends[last - 1] if last > first else begin
                starts += [*self.starts[at:first], *[begin] * n, *self.starts[last:end]]
                ends += [*self.ends[at:first], *[stop] * n, *self.ends[last:end]]
            else:
                starts += self.starts[at:end]
                ends += self.ends[at:end]
            texts += (self.now[at:start], new)
            at = end
        if texts:
            self.now = "".join([*texts, self.now[at:]])
            self.starts = [*starts, *self.starts[at:]]
            self.ends = [*ends, *self.ends[at:]]


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Pieces that Unicode normalises independently: a character and the marks (or Hangul vowels and finals) behind it.

    ASCII characters that stand alone, which it leaves alone, are not among them.
    """
    start = 0
    for i in range(1, len(text) + 1):
        if i < len(text) and (unicodedata.category(text[i])[0] == "M" or 0x1160 <= ord(text[i]) <= 0x11FF):
            continue
        if i > start + 1 or not text[start].isascii():
            yield start, i
        start = i
