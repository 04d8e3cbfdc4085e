"""The one guard around per-sample work: bad data becomes a reject row, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.images import BadSample

T = TypeVar("T")
R = TypeVar("R")

DETAIL_LENGTH = 300


@dataclass
class Rejects:
    """Reject rows of one part (`records.REJECTS`)."""

    part: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, stage: str, source_key: str, reason: str, detail: str = "") -> None:
        self.rows.append(
            {
                "part": self.part,
                "stage": stage,
                "source_key": source_key,
                "reason": reason,
                "detail": detail[:DETAIL_LENGTH],
            }
        )

    def guard(
        self, stage: str, work: Callable[[T], R], samples: Iterable[T], source_key: Callable[[T], str]
    ) -> list[R]:
        """`work` of every sample that survives it. BadSample gives its own reason, any other error its type."""
        done = []
        for sample in samples:
            try:
                done.append(work(sample))
            except BadSample as e:
                self.add(stage, source_key(sample), e.reason, e.detail)
            except FileNotFoundError as e:
                self.add(stage, source_key(sample), "missing_file", str(e))
            except MemoryError:
                raise
            except Exception as e:  # noqa: BLE001 - the one place where a sample may fail in a way nobody foresaw
                self.add(stage, source_key(sample), "unexpected_error", f"{type(e).__name__}: {e}")
        return done
