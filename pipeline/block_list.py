"""A list of what must not be in a dataset: keys, source keys (URLs among them), sha256 of images."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import storage

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class BlockList:
    """The entries. An entry of 64 hex digits is an image's sha256, and a name besides."""

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

    @property
    def has_images(self) -> bool:
        """Whether any entry may be the sha256 of an image, so that bytes have to be looked at."""
        return any(map(_SHA256.fullmatch, self.entries))

    def entry_of(self, *names: str) -> str:
        """The first of a sample's names (source key, key) that is on the list, or ""."""
        return next((name for name in names if name in self.entries), "")

    def entry_of_image(self, image: bytes) -> str:
        """The sha256 of an image's bytes if it is on the list, or ""."""
        digest = hashlib.sha256(image).hexdigest()
        return self.entry_of(digest, digest.upper())

    def identity(self) -> dict[str, Any]:
        """What tells this list from another; the order of lines does not count."""
        text = "\n".join(sorted(self.entries))
        return {"n": len(self.entries), "sha256": hashlib.sha256(text.encode()).hexdigest()}
