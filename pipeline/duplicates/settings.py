"""The settings of duplicates. A module without imports of weight: it is read wherever settings are."""

from __future__ import annotations

from dataclasses import dataclass, field

#: What two images are compared by, from the narrowest to the widest: whoever has equal bytes has equal pixels, and so on.
LEVELS = ("none", "bytes", "pixels", "near")
#: Reasons of the rejects.
REASONS = ("held_out_image", "duplicate_image", "near_duplicate", "duplicate_pair")
#: Bits of 64 that may differ. Different photographs differ in 32 on average.
MAX_DISTANCE = 16


@dataclass(frozen=True)
class DuplicateSettings:
    """Samples that repeat an earlier one, or that an evaluation set has. All of it costs a reading of the images before the build.

    Attributes:
        images: none | bytes | pixels | near: an image that an earlier sample has is left out; by its file's bytes, its decoded upright pixels, or a 64-bit perceptual hash (extra: duplicates)
        pairs: none | bytes | pixels: a caption that an earlier sample with the same image has is dropped, and the sample where none is left
        held_out: files of `regionpairs hashes`: an image that one of them has is left out
        held_out_by: bytes | pixels | near: how images are compared with held_out
        distance: bits of 64 in which perceptual hashes may differ and still be near (near)
        mirrored: whether an image is near a mirrored one too (near)
    """  # noqa: E501 - one line a key: it becomes --help

    images: str = "none"
    pairs: str = "none"
    held_out: list[str] = field(default_factory=list)
    held_out_by: str = "near"
    distance: int = 6
    mirrored: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("images", LEVELS), ("pairs", LEVELS[:3]), ("held_out_by", LEVELS[1:])):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"duplicates.{name}: must be one of {', '.join(allowed)}, not '{getattr(self, name)}'"
                )
        if not 0 <= self.distance <= MAX_DISTANCE:
            raise ValueError(f"duplicates.distance: must be in [0, {MAX_DISTANCE}], is {self.distance}")

    @property
    def on(self) -> bool:
        """Whether anything is looked for."""
        return self.images != "none" or self.pairs != "none" or bool(self.held_out)

    def needs(self, level: str) -> bool:
        """Whether hashes of a level are compared."""
        return level in (self.images, self.pairs, self.held_out_by if self.held_out else "none")
