"""The one guard around per-sample work: a sample's own fault becomes a reject row, and nothing else is hidden by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline import filters
from pipeline.duplicates import settings as duplicates
from pipeline.images import BadSample

T = TypeVar("T")
R = TypeVar("R")

DETAIL_LENGTH = 300
#: Reasons that somebody asked for; `reject_budget` does not count them.
WANTED = frozenset({"removed", "blocked", *filters.REASONS, *duplicates.REASONS})


@dataclass
class Rejects:
    """Reject rows of one part (`records.REJECTS`)."""

    part: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, stage: str, row: Mapping[str, Any], reason: str, detail: str = "") -> None:
        """A reject. row: has the `source_key`, and `n_samples` where it stands for several samples."""
        self.rows.append(
            {
                "part": self.part,
                "stage": stage,
                "source_key": row["source_key"],
                "reason": reason,
                "detail": " ".join(detail.split())[:DETAIL_LENGTH],
                "n_samples": int(row.get("n_samples", 1)),
            }
        )

    def guard(
        self,
        stage: str,
        work: Callable[[T], R],
        samples: Iterable[T],
        row_of: Callable[[T], Mapping[str, Any]],
    ) -> list[R]:
        """`work` of every sample that survives it; BadSample, and nothing but it, makes a reject.

        Whatever else is raised is no fault of the sample: it propagates, with the sample's name as a note.
        """
        done = []
        for sample in samples:
            try:
                done.append(work(sample))
            except BadSample as e:
                self.add(stage, row_of(sample), e.reason, e.detail)
            except Exception as e:
                if hasattr(e, "add_note"):  # Python 3.11
                    e.add_note(f"sample {row_of(sample)['source_key']}")
                raise
        return done
