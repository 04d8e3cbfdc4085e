"""Settings of the concept pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ENSEMBLES = ("normalised", "regionclip")


@dataclass(frozen=True)
class PoolSettings:
    """How captions become a vocabulary of concepts, and how its names become prompts.

    Attributes:
        path: folder or URL of a pool that is there (jobs/build_concept_pool.py), instead of counting; none: count
        min_count: images that must name a concept for it to become a class (RegionCLIP: 100)
        attributes: also count adjective + noun as a concept of its own ("red car" beside "car")
        phrases: also find the noun phrases around names ("the red car next to the tree"), by spaCy's dependency parser
        phrase_pipeline: the spaCy pipeline that parses for `phrases`, a package or folder; none: the one that tags
        aliases: CSV file `alias,name` on top of the built-in table; the user's lines win
        not_visible: CSV file `word,reason` on top of the built-in list; reason `keep` lifts a built-in word
        compounds: text file of fixed names of several words on top of the built-in list, one a line
        extra_names: text file of class names, one a line, that join the pool whatever their count
        templates: text file of prompts with {} for the name, one a line; none: the 81 of RegionCLIP
        ensemble: normalised (normalise, mean, normalise) | regionclip (mean of un-normalised embeddings)
        max_examples: example captions kept a concept
        max_caption_chars: characters of a caption that are read; the rest is cut off
        cache_captions: parsed captions remembered, so that a repeated caption is parsed once
    """

    path: str | None = None
    min_count: int = 10
    attributes: bool = False
    phrases: bool = False
    phrase_pipeline: str | None = None
    aliases: str | None = None
    not_visible: str | None = None
    compounds: str | None = None
    extra_names: str | None = None
    templates: str | None = None
    ensemble: Literal["normalised", "regionclip"] = "normalised"
    max_examples: int = 3
    max_caption_chars: int = 1000
    cache_captions: int = 50_000

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ValueError(f"pool.min_count must be 1 or more, not {self.min_count}")
        if self.ensemble not in ENSEMBLES:
            raise ValueError(f"pool.ensemble must be one of {', '.join(ENSEMBLES)}, not {self.ensemble!r}")
        if self.max_examples < 0 or self.cache_captions < 0 or self.max_caption_chars < 1:
            raise ValueError(
                "pool.max_examples and pool.cache_captions must be 0 or more, max_caption_chars 1 or more"
            )
