"""Concept names -> prompts. The 81 templates: "{}." and the 80 of CLIP on ImageNet (Radford et al. 2021)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources

import storage

_ARTICLE = re.compile(r"\b([Aa]) \{\}")
#: Written with a vowel, spoken with a consonant ("a unicorn"), and the other way round ("an hour glass").
_CONSONANT = re.compile(r"(?:uni(?!n|m)|us[aeiu]|ut[ei]|eu|ew|one\b|once\b|ukulele|ubiq|url)", re.I)
_VOWEL = re.compile(
    r"(?:[aeiou]|hour|honest|honou?r|heir|x-?ray|mp3|mri\b|suv\b|led\b|lcd\b|nba\b|nfl\b|fbi\b)", re.I
)


def load_templates(url: str | None = None) -> list[str]:
    """Templates of a text file, one a line; none: the 81. ValueError for a line without exactly one {}."""
    if url is None:
        text = resources.files("concept_pool").joinpath("data", "templates.txt").read_text(encoding="utf-8")
    else:
        text = storage.read_text(storage.absolute(url))
    templates = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for template in templates:
        if template.count("{}") != 1 or template.replace("{}", "").count("{"):
            raise ValueError(f"{url}: a template has one {{}} for the name and no other brace: {template!r}")
    if not templates:
        raise ValueError(f"{url}: no template in it")
    return templates


def templates_hash(templates: Sequence[str]) -> str:
    """sha256 of the templates, in their order."""
    return hashlib.sha256("\n".join(templates).encode("utf-8")).hexdigest()


def clean_name(name: str) -> str:
    """A name as prompts hold it: "," goes, "+" becomes a space (RegionCLIP's cleaning)."""
    return " ".join(name.replace(",", "").replace("+", " ").split())


def fill(template: str, name: str, articles: bool = True) -> str:
    """The template with the name in it; `articles` turns "a {}" into "an ..." where the name sounds like a
    vowel.
    """
    name = clean_name(name)
    if articles and _VOWEL.match(name) and not _CONSONANT.match(name):
        template = _ARTICLE.sub(r"\1n {}", template)
    return template.replace("{}", name)
