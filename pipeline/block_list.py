"""A list of what must not be in a dataset: keys, source keys (URLs among them), sha256 and perceptual hashes of images."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import storage
from pipeline.images import BadSample

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_NEAR = re.compile(r"near:([0-9a-fA-F]{16})(?:/(\d{1,2}))?")


@dataclass(frozen=True)
class BlockList:
    """The entries. An entry of 64 hex digits is an image's sha256, and a name besides; `near:` and 16 hex digits a
    perceptual hash (`duplicates.hashes.perceptual`), with `/D` one that may differ in D bits."""

    entries: frozenset[str]

    @staticmethod
    def read(url: str) -> BlockList:
        """A file with an entry a line; blank lines and lines that begin with "#" are none.

        FileNotFoundError; ValueError if it is not UTF-8.
        """
        lines = (line.strip() for line in storage.read_text(storage.absolute(url)).split("\n"))
        return BlockList(frozenset(line for line in lines if line and not line.startswith("#")))

    @staticmethod
    def of_setting(url: str | None) -> BlockList:
        """The list of a setting that may be left out."""
        return BlockList.read(url) if url else BlockList(frozenset())

    @cached_property
    def has_images(self) -> bool:
        """Whether any entry is of an image's content, so that bytes have to be looked at."""
        return bool(self.near) or any(map(_SHA256.fullmatch, self.entries))

    @cached_property
    def near(self) -> tuple[tuple[str, int, int], ...]:
        """The perceptual hashes: (entry, hash, bits that may differ)."""
        found = [(entry, _NEAR.fullmatch(entry)) for entry in sorted(self.entries)]
        return tuple((entry, int(m[1], 16), int(m[2] or 0)) for entry, m in found if m)

    def entry_of(self, *names: str) -> str:
        """The first of a sample's names (source key, key) that is on the list, or ""."""
        return next((name for name in names if name in self.entries), "")

    def entry_of_image(self, image: bytes) -> str:
        """The sha256 of an image's bytes or a perceptual hash that it is near to, if it is on the list, or ""."""
        digest = hashlib.sha256(image).hexdigest()
        return self.entry_of(digest, digest.upper()) or (self._near_entry(image) if self.near else "")

    def _near_entry(self, image: bytes) -> str:
        from pipeline.duplicates.hashes import of_image
        from pipeline.sources.settings import SourceSettings

        try:
            *_, own, _ = of_image(image, False, True, SourceSettings.max_pixels)
        except BadSample:
            return ""
        return next((e for e, listed, most in self.near if bin(own ^ listed).count("1") <= most), "")

    def check_image(self, key: str, image: bytes) -> None:
        """Raises BadSample blocked for a sample whose key or image is listed."""
        if self.entry_of(key) or (self.has_images and self.entry_of_image(image)):
            raise BadSample("blocked", "its key or a hash of its image is on source.block_list")

    def identity(self) -> dict[str, Any]:
        """What tells this list from another; the order of lines does not count."""
        text = "\n".join(sorted(self.entries))
        return {"n": len(self.entries), "sha256": hashlib.sha256(text.encode()).hexdigest()}
