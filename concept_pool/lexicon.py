"""The word lists that parsing obeys: data files of this package, extended by a user's own files."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import dataclass
from importlib import resources

import storage
from concept_pool.settings import PoolSettings

#: Words of these reasons are taken off the front of a longer name: "background tree" names a tree, "red car"
#: a car.
FRONT_REASONS = frozenset(
    {"position", "quantity", "image", "pronoun", "function", "adjective", "colour", "proper noun"}
)


@dataclass(frozen=True)
class Lexicon:
    """Everything the parser knows about words, all in lower case.

    `aliases`: name -> the name it counts as. `spellings`: form as written -> form that the tagger reads.
    `not_visible`: name -> why it is no concept. `compounds`: fixed names of several words; those in `opaque`
    are no kind of their last word ("hot dog"). `capitalised`: common nouns that captions write as names.
    `landmarks`: kinds of place that name themselves at the end of a proper name ("Brooklyn Bridge").
    """

    aliases: dict[str, str]
    spellings: dict[str, str]
    not_visible: dict[str, str]
    compounds: frozenset[str]
    opaque: frozenset[str]
    capitalised: frozenset[str]
    landmarks: frozenset[str]

    @classmethod
    def load(cls, settings: PoolSettings) -> Lexicon:
        """The built-in lists, the user's files on top. ValueError names the file and line of a bad row."""
        capitalised = frozenset(_lines(_builtin("capitalised.txt")))
        not_visible = dict.fromkeys(_lines(_builtin("proper_nouns.txt")), "proper noun")
        not_visible.update(_pairs(_builtin("abstract_nouns.csv"), "abstract_nouns.csv"))
        not_visible.update(dict.fromkeys(capitalised, "keep"))
        not_visible.update(_pairs(_builtin("not_visible.csv"), "not_visible.csv"))
        aliases = _pairs(_builtin("aliases.csv"), "aliases.csv")
        compounds = _lines(_builtin("compounds.txt"))
        if settings.not_visible:
            not_visible.update(
                _pairs(storage.read_text(storage.absolute(settings.not_visible)), settings.not_visible)
            )
        if settings.aliases:
            aliases.update(_pairs(storage.read_text(storage.absolute(settings.aliases)), settings.aliases))
        if settings.compounds:
            compounds += _lines(storage.read_text(storage.absolute(settings.compounds)))
        return cls(
            aliases={alias: _resolve(aliases, alias) for alias in aliases},
            spellings=_pairs(_builtin("spellings.csv"), "spellings.csv"),
            not_visible={word: reason for word, reason in not_visible.items() if reason != "keep"},
            compounds=frozenset(name.rstrip("! ") for name in compounds),
            opaque=frozenset(name.rstrip("! ") for name in compounds if name.endswith("!")),
            capitalised=capitalised,
            landmarks=frozenset(_lines(_builtin("landmarks.txt"))),
        )

    @property
    def hash(self) -> str:
        """sha256 of all lists."""
        digest = hashlib.sha256()
        for name, part in sorted(vars(self).items()):
            digest.update(repr((name, sorted(part.items() if isinstance(part, dict) else part))).encode())
        return digest.hexdigest()

    def spelling_pattern(self) -> re.Pattern[str]:
        """Finds the forms of `spellings` in a text, longest first."""
        forms = sorted(self.spellings, key=lambda form: (-len(form), form))
        return re.compile(r"\b(?:" + "|".join(map(re.escape, forms)) + r")\b", re.IGNORECASE)


def read_names(url: str | None) -> list[str]:
    """Class names of a text file, one a line, lower-case, unique, in its order; none without a file."""
    return list(dict.fromkeys(_lines(storage.read_text(storage.absolute(url))))) if url else []


def _resolve(aliases: dict[str, str], alias: str) -> str:
    seen = [alias]
    while seen[-1] in aliases:
        seen.append(aliases[seen[-1]])
        if len(seen) != len(set(seen)):
            raise ValueError(f"aliases go round in a circle: {' -> '.join(seen)}")
    return seen[-1]


def _builtin(name: str) -> str:
    return resources.files("concept_pool").joinpath("data", name).read_text(encoding="utf-8")


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
