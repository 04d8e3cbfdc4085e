"""Where an image's captions name the pool's concepts, and in which noun phrases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from concept_pool.pool import ConceptPool

_WORD = re.compile(r"[^\s/-]+")


def concept_spans(
    pool: ConceptPool, captions: Sequence[str], spans: Iterable[Mapping[str, Any]]
) -> list[dict[str, int]]:
    """Spans of names -> {concept_id, caption, start, end} of the concepts that they count as, by caption and place.

    spans: {name, caption, start, end}, `captions[caption][start:end]` being how the name is said. A name that counts as the
    class at its end ("steel kitchen sink" as "kitchen sink") leaves the words before it out. Names of no class are dropped.
    """
    found = set()
    for span in spans:
        if (known := pool.class_of(span["name"])) is None:
            continue
        concept_id, n_lacking = known
        start, end = span["start"], span["end"]
        words = list(_WORD.finditer(captions[span["caption"]], start, end))
        if 0 < n_lacking < len(words):
            start = words[n_lacking].start()
        found.add((span["caption"], start, end, concept_id))
    return [{"concept_id": c, "caption": i, "start": a, "end": b} for i, a, b, c in sorted(found)]


def concept_phrases(
    spans: Iterable[Mapping[str, int]], phrases: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Noun phrases -> {concept_id, caption, chunk, expression} of the concepts that their roots name, by caption and chunk.

    spans: what `concept_spans` gives. phrases: {caption, head, chunk, expression}. A phrase whose root names no class is
    dropped.
    """
    named: dict[int, list[Mapping[str, int]]] = {}
    for span in spans:
        named.setdefault(span["caption"], []).append(span)
    return [
        {"concept_id": concept_id, **{k: found[k] for k in ("caption", "chunk", "expression")}}
        for found in sorted(phrases, key=lambda p: (p["caption"], p["chunk"]))
        for concept_id in sorted(
            {
                s["concept_id"]
                for s in named.get(found["caption"], ())
                if s["start"] <= found["head"] < s["end"]
            }
        )
    ]
