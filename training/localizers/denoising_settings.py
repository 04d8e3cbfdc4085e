"""Settings of denoising training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DenoisingSettings:
    """How denoising queries are made.

    Attributes:
        groups: noised copies of an image's objects (count)
        shift: a centre moves by less than this share of half the box's width and height
        scale: width and height change by less than this share
        flip: probability that a label claims to be no object
    """

    groups: int = 5
    shift: float = 0.4
    scale: float = 0.4
    flip: float = 0.2
