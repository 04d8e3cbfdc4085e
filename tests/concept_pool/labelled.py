"""The labelled captions, and how a parser does on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).with_name("labelled_captions.tsv")


@dataclass(frozen=True)
class Labelled:
    """A caption with the concepts a careful person would list: `wanted` sets of equally good names, `allowed` extras."""

    kind: str
    caption: str
    wanted: list[frozenset[str]]
    allowed: frozenset[str]


@dataclass
class Score:
    """`found` and `missed` labels, `extra` names; mistakes as (caption, missed or extra, name)."""

    found: int = 0
    missed: int = 0
    extra: int = 0
    mistakes: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.extra)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + self.missed)


def read_labelled() -> list[Labelled]:
    rows = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        kind, caption, labels = line.split("\t")
        items = [item.strip() for item in labels.split(";") if item.strip()]
        wanted = [frozenset(item.split("|")) for item in items if not item.startswith("?")]
        allowed = frozenset(name for item in items if item.startswith("?") for name in item[1:].split("|"))
        rows.append(Labelled(kind, caption, wanted, allowed))
    return rows


def score(rows: list[Labelled], parsed: list[list[str]]) -> dict[str, Score]:
    """Scores by kind of caption."""
    scores: dict[str, Score] = {}
    for row, names in zip(rows, parsed, strict=True):
        one = scores.setdefault(row.kind, Score())
        missed = [labels for labels in row.wanted if not labels & set(names)]
        good = row.allowed.union(*row.wanted)
        extra = [name for name in names if name not in good]
        one.found += len(row.wanted) - len(missed)
        one.missed += len(missed)
        one.extra += len(extra)
        one.mistakes.update((row.caption, "missed", "|".join(sorted(labels))) for labels in missed)
        one.mistakes.update((row.caption, "extra", name) for name in extra)
    return scores
