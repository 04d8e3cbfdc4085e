"""Settings of the sources, and the table of their kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.kinds import Kinds

#: Every kind and its module, which has `load(settings) -> Source` and `describe(settings)`.
KINDS = Kinds(
    "source.kind",
    "regionpairs.sources",
    {
        "shapes": "pipeline.sources.shapes",
        "coco": "pipeline.sources.coco",
        "webdataset": "pipeline.sources.webdataset",
        "folder": "pipeline.sources.folder",
        "parquet": "pipeline.sources.parquet",
        "hf_disk": "pipeline.sources.hf_disk",
        "tsv": "pipeline.sources.text",
        "text": "pipeline.sources.text",
    },
)


@dataclass(frozen=True)
class ColumnSettings:
    """Names of columns, where they are not the usual ones (kinds: parquet, hf_disk, folder; `caption` also for webdataset).

    Attributes:
        image: images as bytes, structs or paths; none: image, or jpg, png, webp as img2dataset has them
        caption: column or JSON key that holds the captions; none: captions, caption and text
        key: what a sample is called; none: key
        path: where the image lies; none: path, file_name, filename, image_path, filepath or file
    """

    image: str | None = None
    caption: str | None = None
    key: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class SourceSettings:
    """Where images and captions come from. Paths may be URLs (local, s3://, gs://).

    Attributes:
        kind: shapes (synthetic scenes, no files) | coco (folder + captions JSON) | webdataset (tars) | parquet | hf_disk (a
            folder that `save_to_disk` of Hugging Face's datasets wrote) | folder (images with .txt or .json beside them,
            Hugging Face's imagefolder, or a table of file names) | tsv (caption TAB url) | text (a caption a line); the
            last two have captions alone | one that an installed package offers (entry point regionpairs.sources)
        images: folder of the images (kinds: coco, folder); base folder of relative paths (kinds: parquet, hf_disk)
        captions: COCO captions JSON, or a pattern of several (kind: coco); table of file names and captions, .csv, .tsv or
            .jsonl (kind: folder, may be left out); for other kinds the same as `urls`
        urls: file or folder, or a list of them; glob patterns are expanded (kinds: webdataset,
            parquet, hf_disk, tsv, text)
        columns: Names of columns, where they are not the usual ones
        extra: columns or JSON keys that travel into each sample's JSON, as `extra` (kinds: webdataset, parquet, hf_disk,
            folder)
        limit: use the first so many samples; 0: all
        count: number of scenes (kind: shapes)
        seed: seed of the scenes (kind: shapes)
        size: side of a scene in pixels (kind: shapes)
        block_list: file with a source key, sample key or image's sha256 a line; such samples are rejected as `blocked`
        max_pixels: an image with more pixels is rejected, as a decompression bomb
        options: whatever a kind of an installed package takes besides (a mapping); our own kinds take none
    """

    kind: str = "shapes"
    images: str | None = None
    captions: str | None = None
    urls: list[str] | str = field(default_factory=list)
    columns: ColumnSettings = field(default_factory=ColumnSettings)
    extra: list[str] = field(default_factory=list)
    limit: int = 0
    count: int = 256
    seed: int = 0
    size: int = 160
    block_list: str | None = None
    max_pixels: int = 100_000_000
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        KINDS.check(self.kind)
        _require(self.limit >= 0, "limit", f"must not be negative, is {self.limit}")
        _require(self.max_pixels >= 1, "max_pixels", f"must be at least 1, is {self.max_pixels}")
        _require(not (self.options and KINDS.is_ours(self.kind)), "options", f"kind {self.kind} takes none")
        without = KINDS.is_ours(self.kind) and self.kind not in ("webdataset", "parquet", "folder", "hf_disk")
        _require(not (self.extra and without), "extra", f"kind {self.kind} has no columns or keys")
        named = [key for key in ("images", "captions", "urls") if getattr(self, key)]
        if self.kind == "shapes":
            _require(not named, "kind", f"shapes reads no files, but source.{''.join(named[:1])} is given")
            _require(self.count >= 1, "count", f"must be at least 1, is {self.count}")
            _require(32 <= self.size <= 2048, "size", f"must be 32 to 2048 pixels, is {self.size}")
        elif self.kind == "coco":
            _require(bool(self.captions), "captions", "kind coco needs a captions JSON")
            _require(not self.urls, "urls", "kind coco takes source.captions")
        elif self.kind == "folder":
            _require(bool(self.images), "images", "kind folder needs a folder of images")
            _require(
                not self.urls, "urls", "kind folder takes source.images, and source.captions for a table"
            )
        elif KINDS.is_ours(self.kind):
            _require(bool(self.url_list()), "urls", f"kind {self.kind} needs at least one file")
            _require(not (self.urls and self.captions), "captions", "is the same as source.urls; give one")

    def url_list(self) -> list[str]:
        """`urls` (or `captions`, which means the same but for kind coco) as a list, whether given as one or not."""
        urls = [self.urls] if isinstance(self.urls, str) else list(self.urls)
        return [url for url in urls if url] or [url for url in [self.captions] if url]


def _require(holds: bool, key: str, message: str) -> None:
    if not holds:
        raise ValueError(f"source.{key}: {message}")
