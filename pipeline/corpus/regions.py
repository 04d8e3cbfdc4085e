"""What the corpus pass needs of a shard: region embeddings, objectness, and what each image's captions name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

#: Images that are looked at together. Concepts that none of them names do not compete, which keeps the work
#: independent of the size of the pool.
BLOCK_IMAGES = 64
#: Of a block, every so manieth image is left out of the fit: it tells whether the fit has learned anything.
HELD_OUT = 8


@dataclass(frozen=True)
class ShardRegions:
    """The R regions of a shard's N images, in order.

    embeddings: L2-normalised [R, D], floating or int8. scales: float32 [R] with int8 (embedding = int8 * scale), else None.
    objectness: float32 [R], raw logits. offsets: int64 [N + 1], image i has regions offsets[i] .. offsets[i + 1].
    mentioned: N lists of concept ids.
    Raises ValueError where these do not fit each other.
    """

    embeddings: np.ndarray
    objectness: np.ndarray
    offsets: np.ndarray
    mentioned: Sequence[Sequence[int]]
    scales: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.embeddings)
        if len(self.objectness) != n or (self.scales is not None and len(self.scales) != n):
            raise ValueError(f"{n} embeddings, {len(self.objectness)} objectness values: not one a region")
        if self.embeddings.dtype == np.int8 and self.scales is None:
            raise ValueError("int8 embeddings need their scales")
        if len(self.offsets) != len(self.mentioned) + 1 or self.offsets[0] != 0 or self.offsets[-1] != n:
            raise ValueError(f"offsets: must go from 0 to {n} in {len(self.mentioned)} steps")

    def blocks(self) -> Iterator[Block]:
        """The images in blocks of `BLOCK_IMAGES`, in order; an image without regions is left out."""
        with_regions = [i for i in range(len(self.mentioned)) if self.offsets[i + 1] > self.offsets[i]]
        for start in range(0, len(with_regions), BLOCK_IMAGES):
            yield self._block(with_regions[start : start + BLOCK_IMAGES])

    def _block(self, images: list[int]) -> Block:
        rows = np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in images])
        counts = [int(self.offsets[i + 1] - self.offsets[i]) for i in images]
        embeddings = self.embeddings[rows].astype(np.float32)
        if self.scales is not None:
            embeddings = embeddings * self.scales[rows, None]
        candidates = np.array(sorted({c for i in images for c in self.mentioned[i]}), np.int64)
        named = np.zeros((len(images), len(candidates)), bool)
        for row, i in zip(named, images, strict=True):
            row[np.searchsorted(candidates, np.array(sorted(self.mentioned[i]), np.int64))] = True
        return Block(
            embeddings,
            self.objectness[rows].astype(np.float32),
            np.repeat(np.arange(len(images)), counts),
            np.cumsum([0, *counts[:-1]]),
            candidates,
            named,
            np.arange(len(images)) % HELD_OUT == HELD_OUT - 1,
        )


@dataclass(frozen=True)
class Block:
    """Up to `BLOCK_IMAGES` images, each with a region or more.

    embeddings: float32 [R, D]. objectness: float32 [R]. image: int [R], rising. starts: int [N], first region of each
    image. candidates: int64 [K], the concepts that any of the images' captions name, rising. named: bool [N, K]. held:
    bool [N], images that are measured and not learned from.
    """

    embeddings: np.ndarray
    objectness: np.ndarray
    image: np.ndarray
    starts: np.ndarray
    candidates: np.ndarray
    named: np.ndarray
    held: np.ndarray


def of_images(
    embeddings: Sequence[np.ndarray],
    objectness: Sequence[np.ndarray],
    mentioned: Sequence[Sequence[int]],
    scales: Sequence[np.ndarray] | None = None,
) -> ShardRegions:
    """The regions of images given one by one: embeddings [R_i, D], objectness [R_i], int8 scales [R_i]."""
    offsets = np.cumsum([0, *(len(o) for o in objectness)]).astype(np.int64)
    empty = np.zeros(0, np.float32)
    return ShardRegions(
        np.concatenate(embeddings) if embeddings else np.zeros((0, 0), np.float32),
        np.concatenate(objectness) if objectness else empty,
        offsets,
        [list(m) for m in mentioned],
        None if scales is None else (np.concatenate(scales) if scales else empty),
    )
