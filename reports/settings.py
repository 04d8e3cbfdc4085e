"""Settings of the HTML report."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ReportSettings:
    """How much a report looks at and shows.

    Attributes:
        shards: shards looked into
        samples: samples looked at, over those shards
        shown: samples shown with their boxes
        concepts: rows of the table of concepts
        crops: concepts of which pairs are shown
        regions: regions of a sample that are drawn, kept ones first
    """

    shards: int = 8
    samples: int = 1200
    shown: int = 60
    concepts: int = 3000
    crops: int = 80
    regions: int = 60

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, is {value}")
