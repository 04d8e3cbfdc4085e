"""Whether a caption is English, by its letters and by spaCy's stop words. Cheap and rough: short captions pass unless they
speak against it, for a caption of three nouns is no language's alone.
"""

from __future__ import annotations

import functools
import importlib
import re

#: Languages that captions of the web are in besides English, by spaCy's names.
OTHERS = ("de", "es", "fr", "it", "nl", "pt", "pl", "sv", "da", "ro", "tr", "id", "cs", "hu")
#: Share of a caption's letters that must be Latin ones without marks.
LEAST_ASCII = 0.5
#: Stop words of another language, and none of English, that speak against a caption.
LEAST_WORDS = 2
_WORD = re.compile(r"[^\W\d_]+")


@functools.cache
def stop_words(language: str) -> frozenset[str]:
    """spaCy's stop words of a language, in lower case."""
    return frozenset(importlib.import_module(f"spacy.lang.{language}.stop_words").STOP_WORDS)


@functools.cache
def _foreign() -> tuple[frozenset[str], ...]:
    return tuple(stop_words(language) - stop_words("en") for language in OTHERS)


def is_english(caption: str) -> bool:
    """False where most letters are not ASCII's, or another language has at least two of the words and more than English."""
    letters = [c for c in caption if c.isalpha()]
    if not letters:
        return True
    if sum(c.isascii() for c in letters) < LEAST_ASCII * len(letters):
        return False
    words = _WORD.findall(caption.casefold())
    most = max(sum(word in listed for word in words) for listed in _foreign())
    return most < LEAST_WORDS or most <= sum(word in stop_words("en") for word in words)
