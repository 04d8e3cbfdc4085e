"""Rules that leave samples out, each a reject reason with a count. All numbers are settings; the preset has COYO-700M's."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.images import BadSample
from pipeline.language import is_english

#: COYO-700M's published rules (github.com/kakaobrain/coyo-dataset). Its language is English.
PRESETS: dict[str, dict[str, float]] = {
    "none": {},
    "coyo": {
        "min_bytes": 5000, "min_side_px": 200, "max_aspect": 3.0, "min_chars": 6, "min_words": 3, "max_words": 256,
        "min_nouns": 1, "max_repeats": 10,
    },
}  # fmt: skip
#: Reasons of the rejects, in the order in which the rules are looked at.
REASONS = (
    "column_filter", "short_caption", "long_caption", "other_language", "no_noun", "frequent_caption", "small_file",
    "small_image", "extreme_aspect", "low_image_text_score",
)  # fmt: skip
LANGUAGES = ("", "any", "en")
_CONDITION = re.compile(r"\s*(\S+)\s*(<=|>=|==|!=|<|>)\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """What a column's number must be for a sample to stay: `nsfw < 0.5`."""

    name: str
    sign: str
    number: float

    @staticmethod
    def parse(text: str) -> Condition:
        """ValueError says what is expected. Nothing of the text is ever run."""
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ValueError(
                f"filters.columns: '{text}' is no condition; expected: NAME <, <=, >, >=, == or != NUMBER"
            )
        return Condition(found[1], found[2], float(found[3]))

    def why_not(self, value: Any) -> str:
        """Why a value does not meet it, or ""."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{self.name} is no number"
        if _OPERATORS[self.sign](value, self.number):
            return ""
        return f"{self.name} is {value:g}, not {self.sign} {self.number:g}"


@dataclass(frozen=True)
class FilterSettings:
    """Samples to leave out. A number of 0 is the preset's; without a preset, no rule.

    Attributes:
        preset: none | coyo (files of 5,000 bytes, sides of 200 pixels, aspect of at most 3, captions of 6 characters and 3 to 256 words, in English, with a noun, of at most 10 samples)
        min_bytes: smallest file of an image
        min_side_px: smallest shorter side, in pixels of the upright image
        max_aspect: largest ratio of the longer side to the shorter one
        min_chars: fewest characters of a caption; shorter ones are dropped, and the sample where none is left
        min_words: fewest words of a caption
        max_words: most words of a caption
        min_image_text_score: smallest cosine of the whole image and its best caption in the teacher's space
        min_nouns: fewest nouns of a caption, as the parser of captions finds them
        max_repeats: most samples that may have the same caption; it is dropped from all of them where there are more
        language: en (captions that letters and stop words speak against are dropped) | any; empty: the preset's
        columns: conditions on numbers that source.extra names, each NAME <, <=, >, >=, == or != NUMBER; a sample stays if all hold
    """  # noqa: E501 - one line a key: it becomes --help

    preset: str = "none"
    min_bytes: int = 0
    min_side_px: int = 0
    max_aspect: float = 0.0
    min_chars: int = 0
    min_words: int = 0
    max_words: int = 0
    min_image_text_score: float = 0.0
    min_nouns: int = 0
    max_repeats: int = 0
    language: str = ""
    columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"filters.preset: must be one of {', '.join(PRESETS)}, not '{self.preset}'")
        for name in PRESETS["coyo"]:
            if getattr(self, name) < 0:
                raise ValueError(f"filters.{name}: must not be negative, is {getattr(self, name)}")
        if self.language not in LANGUAGES:
            raise ValueError(f"filters.language: must be any or en, not '{self.language}'")
        if 0 < self.max_aspect < 1:
            raise ValueError(f"filters.max_aspect: must be 0 (any) or at least 1, is {self.max_aspect}")
        if not -1 <= self.min_image_text_score <= 1:
            raise ValueError(
                f"filters.min_image_text_score: must be in [-1, 1], is {self.min_image_text_score}"
            )
        _ = self.conditions

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(map(Condition.parse, self.columns))

    def number(self, name: str) -> float:
        """The number of a rule: the setting's, else the preset's; 0: no rule."""
        return getattr(self, name) or PRESETS[self.preset].get(name, 0)

    @property
    def english(self) -> bool:
        """Whether captions must be English."""
        return (self.language or ("en" if self.preset == "coyo" else "any")) == "en"

    @property
    def looks_at_size(self) -> bool:
        return bool(self.number("min_side_px") or self.number("max_aspect"))


def filter_rows(rows: Iterable[dict[str, Any]], settings: FilterSettings) -> None:
    """Marks rows of `records.INDEX` (`problem`) by what columns and captions decide; drops captions that a rule is against.

    Rows that have a problem are left alone.
    """
    for row in rows:
        if row["problem"]:
            continue
        if why := _columns_say(row["extra"], settings.conditions):
            row["problem"] = why
        else:
            drop_captions(row, lambda caption: caption_says(caption, settings))


def drop_captions(
    row: dict[str, Any], against: Callable[[str], str | bool], problem: str = ""
) -> dict[str, Any]:
    """Drops the captions that `against` is true of; where none is left all stay, and the row gets a problem.

    problem: "" for the reason that `against` gives of the first caption.
    """
    reasons = [against(caption) for caption in row["captions"]]
    kept = [c for c, reason in zip(row["captions"], reasons, strict=True) if not reason]
    if kept:
        row["captions"] = kept
    elif reasons:
        row["problem"] = problem or f"{reasons[0]}: of all {len(reasons)} captions"
    return row


def _columns_say(extra: str, conditions: Iterable[Condition]) -> str:
    values = json.loads(extra) if extra else {}
    why = next((w for c in conditions if (w := c.why_not(values.get(c.name)))), "")
    return f"column_filter: {why}" if why else ""


def caption_says(caption: str, settings: FilterSettings) -> str:
    """Why a caption alone is dropped, or ""."""
    n_words = len(caption.split())
    if len(caption) < settings.number("min_chars") or n_words < settings.number("min_words"):
        return "short_caption"
    most = settings.number("max_words")
    if most and n_words > most:
        return "long_caption"
    return "other_language" if settings.english and not is_english(caption) else ""


def check_bytes(n_bytes: int, settings: FilterSettings) -> None:
    """Raises BadSample small_file for a file of too few bytes; an empty one has a reason of its own."""
    if 0 < n_bytes < settings.number("min_bytes"):
        raise BadSample("small_file", f"{n_bytes} bytes")


def check_size(width: int, height: int, settings: FilterSettings) -> None:
    """Raises BadSample small_image or extreme_aspect, by the pixels of the upright image."""
    shorter, longer = sorted((width, height))
    if shorter < settings.number("min_side_px"):
        raise BadSample("small_image", f"{width} x {height} pixels")
    most = settings.number("max_aspect")
    if most and longer > most * shorter:
        raise BadSample("extreme_aspect", f"{width} x {height} pixels")


def check_image_text(scores: Iterable[float], settings: FilterSettings) -> None:
    """Raises BadSample low_image_text_score where no caption is as similar to the image as the rule asks.

    scores: cosine of the whole image and each caption.
    """
    best, least = max(scores, default=-1.0), settings.min_image_text_score
    if least and best < least:
        raise BadSample("low_image_text_score", f"{best:g}, not >= {least:g}")
