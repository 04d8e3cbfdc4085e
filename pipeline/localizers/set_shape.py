"""The size of a set predictor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SetShape:
    """The size of a set predictor; it travels in the weights file.

    Attributes:
        queries: proposals an image (count)
        short_side: short side in pixels of the image that the network sees
        width: channels of the transformer
        heads: attention heads
        feedforward: hidden units of the feed-forward layers
        encoder_layers: transformer encoder layers
        decoder_layers: transformer decoder layers
    """

    queries: int = 50
    short_side: int = 128
    width: int = 96
    heads: int = 8
    feedforward: int = 256
    encoder_layers: int = 2
    decoder_layers: int = 3
