"""Where the images of a label-only dataset lie: another dataset with the same parts, known by fingerprint and manifest.

`fingerprint.json` says which dataset it is, `images.json` says where (docs/format.md). Only the second may change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import storage
from pipeline.dataset.damage import DamagedDataset, by_its_maker
from pipeline.dataset.layout import Layout


@dataclass(frozen=True)
class ImageLink:
    """location: URL of the dataset with the images, or `../NAME` for one beside the labels. fingerprint: its own;
    manifest_sha256: of its manifest.parquet, which has the sha256 of every shard and index."""

    location: str
    fingerprint: str
    manifest_sha256: str

    def identity(self) -> dict[str, str]:
        """What the labels' `fingerprint.json` holds as `images`: all but the place."""
        return {"fingerprint": self.fingerprint, "manifest_sha256": self.manifest_sha256}


def link(images: Layout, labels: Layout) -> ImageLink:
    """The link from label-only dataset `labels` to a complete dataset. Raises ValueError for one that is not finished."""
    place = location_of(images) or images
    try:
        made_of = json.loads(storage.read_bytes(place.summary))["fingerprint"]
        sha256 = storage.sha256(place.manifest)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{place.url} is no complete dataset: its build's own command goes on") from e
    return ImageLink(_place(place, labels), made_of, sha256)


def write(layout: Layout, wanted: ImageLink) -> None:
    """Says where the images of a label-only dataset lie."""
    data = json.dumps({"location": wanted.location}, indent=1).encode()
    if not storage.exists(layout.images) or storage.read_bytes(layout.images) != data:
        storage.write_bytes(layout.images, data)


def move(layout: Layout, components: dict[str, Any], at: str) -> Layout:
    """Says that the images of a label-only dataset lie at `at` now, once it is certain that they do; that dataset.

    Raises ValueError as `images_of` does, and `storage.Claimed` where somebody writes the labels.
    """
    place = images_of(layout, components, at)
    assert place is not None
    with storage.Claim.acquire(layout.url, {"program": "regionpairs"}):
        write(layout, ImageLink(_place(place, layout), **components["images"]))
    return place


def location_of(layout: Layout) -> Layout | None:
    """The dataset that has the images of this one, by its word, unchecked; None for one that has images itself.

    Raises ValueError for a damaged record.
    """
    try:
        place = json.loads(storage.read_bytes(layout.images))["location"]
        if not isinstance(place, str):
            raise TypeError("its location is no text")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{layout.images} is damaged: {type(e).__name__}: {str(e)[:200]}") from e
    beside = place.removeprefix("../")
    return Layout(
        storage.join(layout.url.rstrip("/").rsplit("/", 1)[0], beside) if beside != place else place
    )


def images_of(layout: Layout, components: dict[str, Any], at: str | None = None) -> Layout | None:
    """The dataset that has the images of this one; None for a dataset that has images itself.

    components: the dataset's `fingerprint.json`. at: where the images lie now, if not where `images.json` says. Raises
    ValueError, in one line, where that dataset is not there or another one; DamagedDataset where it is not complete, as
    after a repair.
    """
    wanted = components.get("images")
    if not wanted:
        if at:
            raise ValueError(f"{layout.url} has images of its own: it needs none from {at}")
        return None
    place = Layout(storage.location(at, "images")) if at else location_of(layout)
    if place is None:
        raise ValueError(
            f"{layout.url} holds labels alone, and images.json, which says where its images lie, is lost"
        )
    if not storage.exists(place.manifest) and storage.exists(place.fingerprint):
        raise DamagedDataset(
            f"{layout.url} holds labels alone, and {place.url}, which has their images, is not complete",
            by_its_maker(place.url),
        )
    if why := _difference(place, wanted):
        raise ValueError(
            f"{layout.url} holds labels alone, and its images should lie in {place.url}: {why} "
            "(`regionpairs images DATASET --at WHERE` says where they lie now)"
        )
    return place


def _difference(place: Layout, wanted: Any) -> str:
    """Why the dataset at a place is not the wanted one, or ""."""
    try:
        same = storage.sha256(place.manifest) == wanted["manifest_sha256"]
    except FileNotFoundError:
        return "no finished dataset is there"
    except (KeyError, TypeError):
        return "fingerprint.json does not say which dataset that is"
    return "" if same else "the dataset there is another, or has changed since"


def _place(images: Layout, labels: Layout) -> str:
    """The location that is written down: relative for neighbours, so that both can be moved together."""
    folder, _, name = images.url.rstrip("/").rpartition("/")
    beside = folder == labels.url.rstrip("/").rpartition("/")[0] and "?" not in images.url
    return f"../{name}" if beside else storage.redacted(images.url)
