"""Sources: where images and captions come from.

A source lists the *units* of its input (files, or parts of large ones), indexes a unit without opening an image where
the format allows it, and reads images by their index rows, in any order and from any machine. `load(settings)` builds
one by `settings.kind`. A kind is one module with `load(settings) -> Source` and `describe(settings)`, named in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from concept_pool.captions import captions_of, storable
from pipeline.sources.settings import KINDS, SourceSettings

__all__ = ["KINDS", "InputChanged", "Source", "SourceSettings", "Unit", "describe", "index_row", "load"]

#: Characters of a source key and of a problem's text.
MAX_KEY_CHARS = 1024
MAX_PROBLEM_CHARS = 400


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the input that one worker indexes by itself.

    Attributes:
        location: the file, relative to `Source.root`; "" where there is no file
        n_bytes: size of the file; -1: unknown
        version: its entity tag or modification time; "": unknown. Not part of any identity.
        start: first byte, row or image, whatever the source counts in
        stop: the one after the last; -1: to the end
    """

    location: str
    n_bytes: int = -1
    version: str = ""
    start: int = 0
    stop: int = -1


class InputChanged(RuntimeError):
    """A file is no longer what it was when it was indexed."""


class Source(Protocol):
    #: Absolute folder or URL that locations are relative to; "" where there are no files. It may move between two runs.
    root: str
    #: Whether source keys of different units differ by construction.
    unique_keys: bool
    #: False where there are captions alone, which a concept pool can be made of and a dataset cannot.
    has_images: bool

    def units(self) -> list[Unit]:
        """The units in a fixed order. FileNotFoundError or ValueError where the settings name nothing that can be read."""
        ...

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        """The samples of a unit in a fixed order, as rows of `records.INDEX` (without `mentions`).

        A sample known to be unusable says so in `problem`. ValueError: the file is not of this kind; OSError: it cannot
        be read now.
        """
        ...

    def read(self, row: dict[str, Any]) -> bytes:
        """The original image bytes of an index row. BadSample is this sample's own fault; anything else is not."""
        ...

    def check(self) -> None:
        """Raises FileNotFoundError if the input is not within reach now (a mount is gone)."""
        ...

    def identity(self) -> dict[str, Any]:
        """What tells this input from another: names, sizes, hashes. JSON values; nothing in it moves with the folder."""
        ...


def load(settings: SourceSettings, captions_only: bool = False) -> Source:
    """The source that `settings.kind` names. ValueError where it has captions alone and images are needed."""
    source: Source = KINDS.module(settings.kind).load(settings)
    if not captions_only and not source.has_images:
        if settings.kind == "coco":
            raise ValueError("source.images: kind coco needs a folder of images")
        raise ValueError(f"source.kind: {settings.kind} has captions alone, no images")
    return source


def describe(settings: SourceSettings) -> dict[str, Any]:
    """What of the settings changes the rows, beside the files that `Source.identity` tells of; for the fingerprint.

    A user's kind adds its distribution and version.
    """
    return {**KINDS.module(settings.kind).describe(settings), **KINDS.origin(settings.kind)}


def index_row(
    source_key: str,
    location: str,
    captions: Any,
    *,
    offset: int = -1,
    n_bytes: int = -1,
    row: int = -1,
    problem: str = "",
    n_samples: int = 1,
    extra: str = "",
) -> dict[str, Any]:
    """A row of `records.INDEX`. `captions` may be of any type; a sample without any is a problem of its own.

    n_samples: how many samples the row stands for, where a part of a file is lost. extra: JSON, by `extra.extra_of`.
    """
    kept = captions_of(captions)
    if not problem and not kept:
        problem = "empty_caption" if _holds_something(captions) else "no_caption"
    return {
        "source_key": storable(source_key)[:MAX_KEY_CHARS],
        "location": location,
        "offset": offset,
        "n_bytes": n_bytes,
        "row": row,
        "captions": kept,
        "problem": storable(problem)[:MAX_PROBLEM_CHARS],
        "n_samples": n_samples,
        "extra": extra,
    }


def _holds_something(captions: Any) -> bool:
    return bool(captions) if isinstance(captions, (list, tuple, str, bytes, dict)) else captions is not None
