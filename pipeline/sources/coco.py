"""A folder of images and a captions file in COCO's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import storage
from pipeline.sources import index_row
from pipeline.sources.settings import SourceSettings


class CocoSource:
    """The images that the captions JSON lists, by rising file name; files it does not list are not part of the input."""

    def __init__(self, settings: SourceSettings):
        assert settings.images is not None
        assert settings.captions is not None
        self._images = storage.absolute(settings.images)
        self._captions = storage.absolute(settings.captions)

    def listing(self) -> dict[str, Any]:
        sizes = hashlib.sha256(json.dumps(sorted(storage.listing(self._images).items())).encode()).hexdigest()
        return {"captions_sha256": storage.sha256(self._captions), "images_sizes_sha256": sizes}

    def index(self) -> Iterator[dict[str, Any]]:
        try:
            data = json.loads(storage.read_bytes(self._captions))
            images, annotations = data["images"], data["annotations"]
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(f"source.captions: {self._captions} is no COCO captions JSON: {e!r}") from e
        captions: dict[Any, list[str]] = {}
        for annotation in annotations:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
        sizes = storage.listing(self._images)
        if not sizes:
            raise ValueError(f"source.images: {self._images} holds no files")
        for image in sorted(images, key=lambda i: (i["file_name"], str(i["id"]))):
            name = image["file_name"]
            known = name in sizes or ("/" in name and storage.exists(storage.join(self._images, name)))
            yield index_row(
                name,
                storage.join(self._images, name),
                captions.get(image["id"], []),
                n_bytes=sizes.get(name, -1),
                problem="" if known else "missing_file",
            )

    def read(self, row: dict[str, Any]) -> bytes:
        return storage.read_bytes(row["url"])
