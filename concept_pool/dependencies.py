"""spaCy's dependency parser, for noun phrases: a caption in, a Doc with heads, dependencies and parts of speech out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from concept_pool.tagger import MAX_STRINGS, load_spacy, use_numpy_blas

if TYPE_CHECKING:
    from spacy.tokens import Doc

#: What noun phrases do without.
_UNUSED = ("ner", "lemmatizer")


class DependencyParser:
    """A loaded spaCy pipeline with a parser. pipeline: its package or folder; None: the one that tags captions.

    A caption is parsed alone: sums of floats depend on a batch in their last bits, and a parser follows the higher score.
    Raises ValueError, in one line, where the pipeline is not installed or has no parser.
    """

    def __init__(self, pipeline: str | None = None, max_strings: int = MAX_STRINGS) -> None:
        self._pipeline = pipeline
        self._max_strings = max_strings
        self._load()

    def _load(self) -> None:
        nlp = load_pipeline(self._pipeline)
        for name in _UNUSED:
            if nlp.has_pipe(name):
                nlp.remove_pipe(name)
        use_numpy_blas([pipe for _, pipe in nlp.pipeline if hasattr(getattr(pipe, "model", None), "walk")])
        self._nlp = nlp
        self._strings = nlp.vocab.strings
        self._limit = len(self._strings) + self._max_strings

    def __call__(self, text: str) -> Doc:
        if len(self._strings) > self._limit:  # spaCy remembers every word it has ever seen
            self._load()
        doc: Doc = self._nlp(text)
        return doc


def load_pipeline(name: str | None) -> Any:
    """The spaCy pipeline of that name with a dependency parser. Raises ValueError where there is none."""
    if name is None:
        nlp = load_spacy()
    else:
        import spacy

        try:
            nlp = spacy.load(name)
        except OSError:
            raise ValueError(
                f"pool.phrase_pipeline: the spaCy pipeline {name!r} is not installed (pip install it, or "
                "python -m spacy download)"
            ) from None
    if not nlp.has_pipe("parser"):
        raise ValueError(
            f"pool.phrase_pipeline: the spaCy pipeline {name or nlp.meta['name']!r} has no dependency parser"
        )
    return nlp
