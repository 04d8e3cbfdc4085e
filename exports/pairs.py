"""What an export sees of a sample: its pairs, and what its image is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.dataset import Sample


@dataclass(frozen=True)
class Mention:
    """Where a caption names the concept: `captions[caption][start:end]`, in characters."""

    caption: int
    start: int
    end: int


@dataclass(frozen=True)
class Phrase:
    """A noun phrase whose root names the concept: (start, end) of the chunk and of its expression, in a caption.

    expression: None where it lies within another one (`concept_pool/phrases.py`).
    """

    caption: int
    chunk: tuple[int, int]
    expression: tuple[int, int] | None


@dataclass(frozen=True)
class Pair:
    """A region and its concept.

    region: row of the sample's arrays. box_xyxy_norm: in [0, 1] of the upright image. score: what the pair was kept by.
    mentions: where the captions name the concept, in order; none where no caption does. phrases: the noun phrases around
    them, where the dataset has such (`pool.phrases`).
    """

    region: int
    box_xyxy_norm: tuple[float, float, float, float]
    concept_id: int
    concept: str
    probability: float
    score: float
    objectness: float
    mentions: tuple[Mention, ...] = ()
    phrases: tuple[Phrase, ...] = ()

    def box_xyxy(self, width: int, height: int) -> list[float]:
        """The box in pixels of the upright image, to a hundredth."""
        x0, y0, x1, y1 = self.box_xyxy_norm
        return [round(v, 2) for v in (x0 * width, y0 * height, x1 * width, y1 * height)]

    def box_xywh(self, width: int, height: int) -> list[float]:
        """x, y, width, height in pixels, to a hundredth."""
        x0, y0, x1, y1 = self.box_xyxy(width, height)
        return [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]


def pairs_of(sample: Sample) -> list[Pair]:
    """The pairs of a sample, by rising region. Boxes are the arrays', which the JSON rounds."""
    boxes = sample.arrays["boxes_xyxy_norm"]
    found = []
    for row in sample.meta["pairs"]:
        x0, y0, x1, y1 = boxes[row["region"]].tolist()
        found.append(
            Pair(
                row["region"],
                (x0, y0, x1, y1),
                row["concept_id"],
                row["concept"],
                row["probability"],
                row["score"],
                row["objectness"],
                tuple(Mention(m["caption"], m["start"], m["end"]) for m in row.get("mentions", ())),
                tuple(map(_phrase, row.get("phrases", ()))),
            )
        )
    return found


def _phrase(row: dict[str, Any]) -> Phrase:
    expression = row.get("expression")
    return Phrase(row["caption"], (*row["chunk"],), (*expression,) if expression else None)


def image_name(sample: Sample) -> str:
    """The file name of a sample's image in every format."""
    return f"{sample.key}.{sample.extension}"
