"""Which column of a foreign table holds what."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.sources.settings import ColumnSettings

#: Columns that hold images: Hugging Face's, and img2dataset's, which is named after the format that it encodes to.
IMAGES = ("image", "jpg", "png", "webp")
#: Columns that hold an image's place, in the order in which they are looked for; Hugging Face's imagefolder has the second.
PATHS = ("path", "file_name", "filename", "image_path", "filepath", "file")


def image_column(columns: ColumnSettings, names: Collection[str]) -> str | None:
    """The column of images (bytes, structs or paths) among `names`; None where there is none."""
    return _first(columns.image, IMAGES, names)


def path_column(columns: ColumnSettings, names: Collection[str]) -> str | None:
    """The column of the images' places; None where there is none."""
    return _first(columns.path, PATHS, names)


def key_column(columns: ColumnSettings, names: Collection[str]) -> str | None:
    """The column of the samples' keys; None where there is none."""
    return _first(columns.key, ("key",), names)


def _first(wanted: str | None, usual: Sequence[str], names: Collection[str]) -> str | None:
    return next((name for name in ([wanted] if wanted else usual) if name in names), None)
