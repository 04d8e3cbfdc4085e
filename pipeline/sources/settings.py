"""Settings of the source room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SourceKind = Literal["shapes", "coco", "webdataset", "parquet"]


@dataclass(frozen=True)
class SourceSettings:
    """Where images and captions come from. Paths may be URLs (local, s3://, gs://).

    Attributes:
        kind: shapes (synthetic scenes, no files) | coco (folder + captions JSON) | webdataset (tars) | parquet
        images: folder of the images (kind: coco); base folder of relative paths (kind: parquet)
        captions: COCO captions JSON (kind: coco)
        urls: tar or parquet file, or a list of them; glob patterns are expanded (kinds: webdataset, parquet)
        limit: use the first so many samples; 0: all
        count: number of scenes (kind: shapes)
        seed: seed of the scenes (kind: shapes)
        size: side of a scene in pixels (kind: shapes)
        max_pixels: an image with more pixels is rejected, as a decompression bomb
    """

    kind: SourceKind = "shapes"
    images: str | None = None
    captions: str | None = None
    urls: list[str] | str = field(default_factory=list)
    limit: int = 0
    count: int = 256
    seed: int = 0
    size: int = 160
    max_pixels: int = 100_000_000

    def url_list(self) -> list[str]:
        """`urls` as a list, whether it was given as one or not."""
        return [self.urls] if isinstance(self.urls, str) else list(self.urls)
