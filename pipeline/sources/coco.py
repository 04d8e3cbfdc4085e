"""A folder of images and a captions file in COCO's format."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import storage
from pipeline.coco import Coco, CocoImage, read_coco
from pipeline.images import BadSample
from pipeline.sources import Unit, index_row
from pipeline.sources.files import Files, digest
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.settings import SourceSettings

UNIT_IMAGES = 1 << 14
_WHAT = "COCO captions JSON"


class CocoSource:
    """The images that the captions JSON lists, by rising file name; files it does not list are not part of the input.

    Without `source.images` there are captions alone, and ids are the keys. A file that is listed twice is one sample
    with the captions of both records; the other row is a `duplicate_key`.
    """

    def __init__(self, settings: SourceSettings):
        assert settings.captions is not None
        self._files = Files([settings.captions], (".json", ".json.gz"), "captions")
        self._images = (
            ImageFolder(storage.location(settings.images, "source.images"), "source.images")
            if settings.images
            else None
        )
        self.has_images = self._images is not None
        self.unique_keys = False
        self.root = storage.redacted(self._images.root) if self._images else self._files.root
        self._read: dict[tuple[str, int, str], list[dict[str, Any]]] = {}

    def units(self) -> list[Unit]:
        found = []
        for unit in self._files.units():
            n = len(self._rows(unit))
            for start in range(0, n, UNIT_IMAGES):
                stop = min(start + UNIT_IMAGES, n)
                found.append(Unit(unit.location, unit.n_bytes, unit.version, start, stop))
        return found

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        for row in self._rows(unit)[unit.start : unit.stop if unit.stop >= 0 else None]:
            yield dict(row)

    def _rows(self, unit: Unit) -> list[dict[str, Any]]:
        """All rows of a captions file; remembered, since its units share them."""
        key = (unit.location, unit.n_bytes, unit.version)
        if key not in self._read:
            coco = self._coco(unit)
            if coco.images and not coco.captions:
                why = f" ({coco.why()})" if coco.skipped else ""
                raise ValueError(
                    f"source.captions: {unit.location} holds no captions; is it the instances file?{why}"
                )
            self._read = {key: self._with_images(coco) if self._images else _captions_alone(coco)}
        return self._read[key]

    def _coco(self, unit: Unit) -> Coco:
        url = self._files.unchanged(unit)
        try:
            if not unit.version:
                return read_coco(url, _WHAT)
            return _remembered(url, unit.n_bytes, unit.version)
        except ValueError as e:
            raise ValueError(f"source.captions: {str(e).replace(url, storage.redacted(url))}") from None

    def _with_images(self, coco: Coco) -> list[dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        doubles = []
        for i, image in sorted(enumerate(coco.images), key=lambda p: (p[1].file_name, p[1].id, p[0])):
            row = self._row(image, coco.captions.get(image.id), i)
            first = rows.setdefault(row["source_key"], row)
            if first is not row:
                first["captions"] = list(dict.fromkeys([*first["captions"], *row["captions"]]))
                if first["captions"] and first["problem"] in ("no_caption", "empty_caption"):
                    first["problem"] = ""
                doubles.append({**row, "problem": row["problem"] or "duplicate_key"})
                if row["problem"] in ("no_caption", "empty_caption"):
                    doubles[-1]["problem"] = "duplicate_key"
        return [*rows.values(), *doubles]

    def _row(self, image: CocoImage, captions: list[str] | None, position: int) -> dict[str, Any]:
        assert self._images is not None
        key = storage.redacted(image.file_name) or f"images[{position}]"
        location, n_bytes, problem = "", -1, image.problem
        if not problem and captions is not None and not captions:
            problem = "empty_caption"
        if image.file_name and not problem.startswith("bad_record"):
            try:
                location, n_bytes = self._images.find(image.file_name)
                if n_bytes < 0:  # on a web server; a signature in its address must not be written down
                    location = storage.redacted(location)
                key = location
            except BadSample as e:
                problem = image.problem or f"{e.reason}: {e.detail}"
        return index_row(key, location, captions, n_bytes=n_bytes, problem=problem)

    def read(self, row: dict[str, Any]) -> bytes:
        assert self._images is not None
        return self._images.read(row["location"], row["n_bytes"])

    def check(self) -> None:
        if self._images:
            self._images.check()
        else:
            self._files.check()

    def identity(self) -> dict[str, Any]:
        """The bytes of the captions files, and the sizes of the images that they list."""
        files = self._files.units()
        found: dict[str, Any] = {
            "captions_sha256": [storage.sha256(self._files.url(u.location)) for u in files]
        }
        if self._images:
            rows = sorted((r["location"], r["n_bytes"]) for unit in files for r in self._rows(unit))
            found["images_sizes_sha256"] = digest(rows)
        return found


@lru_cache(maxsize=1)
def _remembered(url: str, n_bytes: int, version: str) -> Coco:
    """A file of that size and version, parsed once a process: each of its units is indexed by a source of its own."""
    return read_coco(url, _WHAT)


def _captions_alone(coco: Coco) -> list[dict[str, Any]]:
    """A row an image id, by rising number or text; ids that only annotations name count too."""
    ids = dict.fromkeys([image.id for image in coco.images if image.id] + list(coco.captions))
    ordered = sorted(ids, key=lambda i: (0, int(i), i) if i.isascii() and i.isdigit() else (1, 0, i))
    return [index_row(image_id, "", coco.captions.get(image_id, [])) for image_id in ordered]


def load(settings: SourceSettings) -> CocoSource:
    return CocoSource(settings)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {}
