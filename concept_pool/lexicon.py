"""The word lists that parsing obeys: data files of this package, extended by a user's own files."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, field
from importlib import resources

import fsspec

from concept_pool.settings import PoolSettings

#: Reasons whose words say where or how much of the thing beside them: "kitchen area" names the kitchen, "front yard" the yard.
TRANSPARENT_REASONS = frozenset({"position", "quantity", "image"})


@dataclass(frozen=True)
class Lexicon:
    """Everything the parser knows about words.

    `aliases` maps a name to the name it counts as, `spellings` a written form to the form the tagger should read,
    `not_visible` a name to the reason why it is no concept; `compounds` are fixed names of several words, those in
    `opaque` are no kind of their last word ("hot dog"); `capitalised` are common nouns that captions write as names.
    """

    aliases: dict[str, str]
    spellings: dict[str, str]
    not_visible: dict[str, str]
    compounds: frozenset[str]
    opaque: frozenset[str]
    capitalised: frozenset[str]
    hash: str = field(default="")

    @classmethod
    def load(cls, settings: PoolSettings) -> Lexicon:
        """The built-in lists with the user's files on top. ValueError names the file and line of a bad row."""
        not_visible = _pairs(_builtin("not_visible.csv"), "not_visible.csv")
        aliases = _pairs(_builtin("aliases.csv"), "aliases.csv")
        compounds = dict.fromkeys(_lines(_builtin("compounds.txt")))
        if settings.not_visible:
            not_visible.update(_pairs(_read(settings.not_visible), settings.not_visible))
        if settings.aliases:
            aliases.update(_pairs(_read(settings.aliases), settings.aliases))
        if settings.compounds:
            compounds.update(dict.fromkeys(_lines(_read(settings.compounds))))
        opaque = frozenset(name.rstrip("!").strip() for name in compounds if name.endswith("!"))
        parts = {
            "aliases": {alias: _resolve(aliases, alias) for alias in aliases},
            "spellings": _pairs(_builtin("spellings.csv"), "spellings.csv"),
            "not_visible": {word: reason for word, reason in not_visible.items() if reason != "keep"},
            "compounds": frozenset(name.rstrip("!").strip() for name in compounds),
            "opaque": opaque,
            "capitalised": frozenset(_lines(_builtin("capitalised.txt"))),
        }
        return cls(**parts, hash=_hash(parts))  # type: ignore[arg-type]

    def alias_of(self, name: str) -> str:
        """The name that `name` counts as (itself where it is no alias)."""
        return self.aliases.get(name, name)


def _resolve(aliases: dict[str, str], alias: str) -> str:
    seen = [alias]
    while seen[-1] in aliases:
        seen.append(aliases[seen[-1]])
        if len(seen) != len(set(seen)):
            raise ValueError(f"aliases go round in a circle: {' -> '.join(seen)}")
    return seen[-1]


def _builtin(name: str) -> str:
    return resources.files("concept_pool").joinpath("data", name).read_text(encoding="utf-8")


def _read(url: str) -> str:
    with fsspec.open(url, "rt", encoding="utf-8") as file:
        return file.read()


def _lines(text: str) -> list[str]:
    lines = (line.split("#", 1)[0].strip().lower() for line in text.splitlines())
    return [line for line in lines if line]


def _pairs(text: str, where: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row or row[0].lstrip().startswith("#"):
            continue
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            raise ValueError(f"{where}, line {number}: two values expected, got {','.join(row)!r}")
        pairs[row[0].strip().lower()] = row[1].strip().lower()
    return pairs


def _hash(parts: dict[str, object]) -> str:
    digest = hashlib.sha256()
    for name in sorted(parts):
        part = parts[name]
        digest.update(repr((name, sorted(part.items() if isinstance(part, dict) else part))).encode())  # type: ignore
    return digest.hexdigest()


def read_names(url: str | None) -> list[str]:
    """Class names of a user's text file, one a line, lower-case, in its order; none for no file. `#` starts a comment."""
    return list(dict.fromkeys(_lines(_read(url)))) if url else []
