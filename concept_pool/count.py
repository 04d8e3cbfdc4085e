"""Mergeable partial counts of concepts: captions in, counts out, the same in any order."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from concept_pool.parse import Parsed, Parser

TABLE = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # total | name | rejected
        pa.field("name", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # empty but for rejected words
        pa.field("n_images", pa.int64(), nullable=False),
        pa.field("n_mentions", pa.int64(), nullable=False),
        pa.field("n_images_within", pa.int64(), nullable=False),
        pa.field("examples", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
    ]
)


@dataclass
class Counts:
    """Counts of a part of a corpus. Merging is associative and commutative, examples included (they are
    chosen by hash).

    `images` counts images that name a concept, `mentions` captions that do, `within` images that name it
    alone or as the last words of a longer name ("sink" in "kitchen sink"), `rejected` captions with a
    rejected (word, reason).
    """

    max_examples: int = 3
    n_images: int = 0
    n_captions: int = 0
    images: Counter[str] = field(default_factory=Counter)
    mentions: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, tuple[tuple[bytes, str], ...]] = field(default_factory=dict)

    def add_image(self, captions: list[tuple[str, tuple[str, ...]]], opaque: frozenset[str]) -> list[str]:
        """Count an image by its distinct (caption, names); returns the names it mentions, sorted."""
        named: set[str] = set()
        for caption, names in captions:
            self.mentions.update(names)
            named.update(names)
            if self.max_examples and names:
                example = (_rank(caption), caption)
                for name in names:
                    self._add_examples(name, (example,))
        self.n_images += 1
        self.n_captions += len(captions)
        self.images.update(named)
        self.within.update(with_tails(named, opaque))
        return sorted(named)

    def _add_examples(self, name: str, examples: tuple[tuple[bytes, str], ...]) -> None:
        kept = self.examples.get(name, ())
        if len(kept) == self.max_examples and kept[-1] < examples[0]:
            return
        self.examples[name] = tuple(sorted({*kept, *examples})[: self.max_examples])

    def merge(self, other: Counts) -> Counts:
        """Add `other` in place and return self; counts of nothing take over the other's `max_examples`.

        ValueError if the two kept different numbers of examples.
        """
        if not other.n_images:
            return self
        if not self.n_images:
            self.max_examples = other.max_examples
        if other.max_examples != self.max_examples:
            raise ValueError(
                f"counts with {self.max_examples} and {other.max_examples} examples cannot be merged"
            )
        self.n_images += other.n_images
        self.n_captions += other.n_captions
        for mine, theirs in (
            (self.images, other.images), (self.mentions, other.mentions),
            (self.within, other.within), (self.rejected, other.rejected),
        ):  # fmt: skip
            for key, count in theirs.items():
                mine[key] += count  # type: ignore[index]
        for name, examples in other.examples.items():
            self._add_examples(name, examples)
        return self

    def to_table(self) -> pa.Table:
        """`TABLE` rows, sorted; the same counts give the same table."""
        rows: list[dict[str, object]] = [
            _row("total", "", "", self.n_images, self.n_captions, self.max_examples, [])
        ]
        for name in sorted(self.within):
            examples = [caption for _, caption in self.examples.get(name, ())]
            rows.append(
                _row("name", name, "", self.images[name], self.mentions[name], self.within[name], examples)
            )
        for (word, reason), count in sorted(self.rejected.items()):
            rows.append(_row("rejected", word, reason, 0, count, 0, []))
        return pa.Table.from_pylist(rows, schema=TABLE)

    @classmethod
    def from_table(cls, table: pa.Table) -> Counts:
        """The counts that `to_table` wrote."""
        counts = cls()
        for row in table.to_pylist():
            name = row["name"]
            if row["kind"] == "total":
                counts.n_images, counts.n_captions = row["n_images"], row["n_mentions"]
                counts.max_examples = row["n_images_within"]
            elif row["kind"] == "rejected":
                counts.rejected[(name, row["reason"])] = row["n_mentions"]
            else:
                counts.within[name] = row["n_images_within"]
                if row["n_images"]:
                    counts.images[name], counts.mentions[name] = row["n_images"], row["n_mentions"]
                if row["examples"]:
                    counts.examples[name] = tuple((_rank(caption), caption) for caption in row["examples"])
        return counts

    @classmethod
    def from_concepts(cls, concepts: pa.Table, rejected: pa.Table, about: dict, max_examples: int) -> Counts:
        """The counts behind a pool's tables; bare counts of a pool that was imported from a list are kept too."""
        counts = cls(max_examples, int(about.get("n_images", 1)), int(about.get("n_captions", 0)))
        for row in concepts.to_pylist():
            name = row["name"]
            counts.within[name] = row["n_images_within"]
            counts.images[name], counts.mentions[name] = row["n_images"], row["n_mentions"]
            if row["examples"]:
                counts.examples[name] = tuple((_rank(text), text) for text in row["examples"][:max_examples])
        for row in rejected.to_pylist():
            counts.rejected[(row["word"], row["reason"])] = row["n_mentions"]
        return counts


#: The distinct captions of an image, and what each names.
ParsedImage = list[tuple[str, Parsed]]


def count_block(captions_per_image: list[list[str]], parser: Parser) -> tuple[Counts, list[list[str]]]:
    """Counts of a block of images, and the names that each image's captions mention (sorted).

    A caption that an image has twice counts once. An image without captions counts as an image that names
    nothing.
    """
    return count_parsed(parse_block(captions_per_image, parser), parser)


def parse_block(captions_per_image: list[list[str]], parser: Parser) -> list[ParsedImage]:
    """The distinct captions of every image of a block, tidied, with what they name."""
    unique = [list(dict.fromkeys(map(_tidy, captions))) for captions in captions_per_image]
    parsed = iter(parser.analyse([caption for captions in unique for caption in captions]))
    return [[(caption, next(parsed)) for caption in captions] for captions in unique]


def count_parsed(images: list[ParsedImage], parser: Parser) -> tuple[Counts, list[list[str]]]:
    """What `count_block` returns, of captions that are parsed."""
    counts = Counts(max_examples=parser.settings.max_examples)
    mentions = []
    for image in images:
        for _, read in image:
            counts.rejected.update(read.rejected)
        mentions.append(
            counts.add_image([(caption, read.names) for caption, read in image], parser.lexicon.opaque)
        )
    return counts, mentions


def spans_of(captions: list[str], image: ParsedImage, parser: Parser) -> list[dict[str, Any]]:
    """Where an image's captions say names: {name, caption, start, end}.

    `captions[caption][start:end]` is how a caption says the name. image: what `parse_block` gave for these captions. Of
    equal captions the first one counts.
    """
    numbers = _numbers(captions)
    return [
        {"name": name, "caption": numbers[text], "start": start, "end": end}
        for text, parsed in image
        if parsed.spans
        for name, start, end in parser.spans(captions[numbers[text]], parsed)
    ]


def phrases_in(captions: list[str], image: ParsedImage, parser: Parser) -> list[dict[str, Any]]:
    """The noun phrases around names in an image's captions: {caption, head, chunk, expression}; see `phrases.Phrase`.

    chunk is [start, end], expression too, or empty where it lies within another one. image: as for `spans_of`.
    """
    numbers = _numbers(captions)
    return [
        {
            "caption": numbers[text],
            "head": found.head,
            "chunk": list(found.chunk),
            "expression": list(found.expression or ()),
        }
        for text, parsed in image
        if parsed.phrases
        for found in parser.phrases(captions[numbers[text]], parsed)
    ]


def _numbers(captions: list[str]) -> dict[str, int]:
    """Tidied caption -> its number; of equal ones the first."""
    numbers: dict[str, int] = {}
    for number, caption in enumerate(captions):
        numbers.setdefault(_tidy(caption), number)
    return numbers


def tails(name: str, opaque: frozenset[str]) -> list[str]:
    """The more general names inside a name of several words: "kitchen sink" -> ["sink"]; none for opaque
    names.
    """
    found = []
    while " " in name and name not in opaque:
        name = name.split(" ", 1)[1]
        found.append(name)
    return found


def with_tails(names: set[str], opaque: frozenset[str]) -> set[str]:
    """`names` and the more general names inside them."""
    return names.union(*(tails(name, opaque) for name in names if " " in name))


def _tidy(caption: str) -> str:
    """The caption without blanks around it, and as text that can be stored."""
    return caption.strip() if caption.isascii() else caption.encode("utf-8", "replace").decode().strip()


def _rank(caption: str) -> bytes:
    return hashlib.blake2b(caption.encode("utf-8"), digest_size=8).digest()


def _row(
    kind: str, name: str, reason: str, images: int, mentions: int, within: int, examples: list[str]
) -> dict:
    values = (kind, name, reason, images, mentions, within, examples)
    return dict(zip(TABLE.names, values, strict=True))
