"""Lists of hashes of images that must not be in a dataset: an evaluation set's, say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import storage
from pipeline.duplicates.hashes import distances, of_image
from pipeline.images import BadSample
from pipeline.sources.settings import SourceSettings

HEAD = "# regionpairs hashes: sha256, pixels, perceptual, perceptual of the mirror image, name"
#: Names that images end with.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class HeldOut:
    """The entries of some lists, in their order: names, digests, perceptual hashes uint64 [M]."""

    names: list[str]
    sha256: dict[bytes, int]
    pixels: dict[bytes, int]
    near: np.ndarray
    mirror: np.ndarray

    @staticmethod
    def read(urls: Iterable[str]) -> HeldOut:
        """FileNotFoundError; ValueError, which names file and line, for what `regionpairs hashes` did not write."""
        rows = [row for url in urls for row in _rows(url)]
        return HeldOut(
            [row[4] for row in rows],
            {row[0]: i for i, row in reversed(list(enumerate(rows)))},
            {row[1]: i for i, row in reversed(list(enumerate(rows)))},
            np.array([row[2] for row in rows], np.uint64),
            np.array([row[3] for row in rows], np.uint64),
        )

    def find(self, hashes: tuple[bytes, bytes, int, int], by: str, distance: int, mirrored: bool) -> Any:
        """(name, distance) of the first of the nearest entries, or None. hashes: what `of_image` gives."""
        sha256, pixels, near, mirror = hashes
        number = self.sha256.get(sha256)
        if number is None and by == "pixels":
            number = self.pixels.get(pixels)
        if number is not None:
            return self.names[number], 0
        if by != "near" or not self.names:
            return None
        apart = distances(self.near, np.uint64(near))
        if mirrored:
            apart = np.minimum(apart, distances(self.mirror, np.uint64(near)))
            apart = np.minimum(apart, distances(self.near, np.uint64(mirror)))
        nearest = int(apart.argmin())
        return (self.names[nearest], int(apart[nearest])) if apart[nearest] <= distance else None


def of_setting(urls: Iterable[str]) -> HeldOut:
    """The lists of `duplicates.held_out`; parsed once a process for the same content."""
    return _parsed(tuple(urls), tuple(identity(urls)))


@lru_cache(maxsize=2)
def _parsed(urls: tuple[str, ...], sha256: tuple[str, ...]) -> HeldOut:
    return HeldOut.read(urls)


def identity(urls: Iterable[str]) -> list[str]:
    """sha256 of each list: what tells them from others."""
    return [storage.sha256(storage.absolute(url)) for url in urls]


def _rows(url: str) -> Iterator[tuple[bytes, bytes, int, int, str]]:
    for number, line in enumerate(storage.read_text(storage.absolute(url)).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            sha256, pixels, near, mirror, name = line.rstrip("\r").split("\t", 4)
            row = bytes.fromhex(sha256), bytes.fromhex(pixels), int(near, 16), int(mirror, 16), name
            if len(row[0]) != 32 or len(row[1]) != 32 or max(row[2], row[3]) >= 1 << 64:
                raise ValueError("a hash is of another length")
        except ValueError as e:
            raise ValueError(
                f"{storage.redacted(url)}, line {number}: not what `regionpairs hashes` writes ({e})"
            ) from e
        yield row


def hash_folder(folder: str, names: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """(name, line of a list) of every image below a folder, by name; "" for one that cannot be decoded.

    names: relative to the folder; None: all that end like an image.
    """
    root = storage.location(folder, "folder")
    if names is None:
        names = sorted(n for n in storage.tree(root) if n.lower().endswith(SUFFIXES))
    for name in names:
        try:
            sha256, pixels, near, mirror = of_image(
                storage.read_bytes(storage.join(root, name)), True, True, SourceSettings.max_pixels
            )
        except BadSample:
            yield name, ""
            continue
        shown = " ".join(name.split())
        yield name, f"{sha256.hex()}\t{pixels.hex()}\t{near:016x}\t{mirror:016x}\t{shown}"


def digest_of_caption(caption: str, image: bytes = b"") -> bytes:
    """8 bytes (16 beside an image's hash) of a caption in lower case with single blanks."""
    text = " ".join(caption.casefold().split()).encode("utf-8", "replace")
    return hashlib.blake2b(image + text, digest_size=16 if image else 8).digest()
