"""Noun phrases of a parsed caption, by the rules of GRIT (Peng et al. 2023, Kosmos-2, section 2): noun chunks, and the
referring expressions that they grow into. Pure: a spaCy Doc with a dependency parse in, places of characters out.

1. The noun chunks are spaCy's. Of those, a chunk counts if its root is part of a name; the others are abstract or cannot
   be seen ("time", "the left").
2. A chunk grows to the whole subtree of its root: "a dog" to "a dog in a field of flowers". One whose root is joined to
   another by "and" or "or" does not, since nobody knows which of them the rest belongs to.
3. An expression that lies within another one goes: "a field of flowers" within the one above. Its chunk stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

#: Punctuation and conjunctions, which an expression neither begins nor ends with.
_EDGES = frozenset({"PUNCT", "SPACE", "CCONJ"})
_BRACKETS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun chunk and its expression, as (start, end) of characters.

    head: where the root of the chunk begins. expression: None where it lies within another one.
    """

    head: int
    chunk: tuple[int, int]
    expression: tuple[int, int] | None


def phrases_of(doc: Doc, names: Iterable[tuple[int, int]]) -> tuple[Phrase, ...]:
    """The phrases of a caption whose roots are part of names, in the order of their chunks.

    names: (start, end) of characters, as are the phrases'. doc: with dependencies and parts of speech.
    """
    places = list(names)
    chunks = [c for c in doc.noun_chunks if any(start <= c.root.idx < end for start, end in places)]
    cores = [_trimmed(doc, chunk.start, chunk.end, chunk.root) for chunk in chunks]
    grown = [_expression(doc, *core, chunk.root) for core, chunk in zip(cores, chunks, strict=True)]
    return tuple(
        Phrase(
            chunk.root.idx,
            _characters(doc, core),
            None if _is_within_another(own, grown) else _characters(doc, own),
        )
        for chunk, core, own in zip(chunks, cores, grown, strict=True)
    )


def _expression(doc: Doc, start: int, stop: int, root: Token) -> tuple[int, int]:
    """Tokens (first, one after the last) of the chunk [start, stop) with all that depends on its root."""
    if not root.conjuncts:
        inside = {token.i for token in root.subtree}
        while start - 1 in inside:
            start -= 1
        while stop in inside:
            stop += 1
    return _trimmed(doc, start, stop, root)


def _trimmed(doc: Doc, start: int, stop: int, root: Token) -> tuple[int, int]:
    """[start, stop) without punctuation and conjunctions at its ends; a bracket stays where its other half does."""
    while start < root.i and _is_edge(doc[start]):
        start += 1
    while stop - 1 > root.i and _is_edge(doc[stop - 1]) and not _closes(doc, start, stop - 1):
        stop -= 1
    return start, stop


def _is_edge(token: Token) -> bool:
    """Whether a phrase neither begins nor ends with a token; the tagger takes some brackets for words."""
    return token.pos_ in _EDGES or not any(c.isalnum() for c in token.text)


def _closes(doc: Doc, start: int, at: int) -> bool:
    """Whether a token closes a bracket that was opened behind `start`."""
    opening = _BRACKETS.get(doc[at].text)
    return opening is not None and any(token.text == opening for token in doc[start:at])


def _is_within_another(own: tuple[int, int], all_of_them: Sequence[tuple[int, int]]) -> bool:
    return any(other != own and other[0] <= own[0] and own[1] <= other[1] for other in all_of_them)


def _characters(doc: Doc, tokens: tuple[int, int]) -> tuple[int, int]:
    first, last = doc[tokens[0]], doc[tokens[1] - 1]
    return first.idx, last.idx + len(last)
