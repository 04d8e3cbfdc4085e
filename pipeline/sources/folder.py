"""A folder of images whose captions lie beside them, or in a table of file names.

Three forms, told apart by what is there: `source.captions` names a table (.csv, .tsv, .jsonl, .parquet); else files
`metadata.*` in the folder are tables (Hugging Face's imagefolder); else each image has a `.txt`, `.caption` or `.json` of
its own name (img2dataset's files output).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from typing import Any

import storage
from concept_pool.captions import captions_of_members, captions_of_record
from pipeline.images import BadSample
from pipeline.sources import InputChanged, Unit, index_row
from pipeline.sources.columns import path_column
from pipeline.sources.extra import extra_of, extra_of_json
from pipeline.sources.file_tables import SUFFIXES as TABLES
from pipeline.sources.file_tables import Record, records_of
from pipeline.sources.files import Files, digest, is_clutter
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.settings import SourceSettings

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
#: Captions beside an image, in the order in which they are read.
TEXTS, DOCUMENT = (".txt", ".caption"), ".json"
UNIT_IMAGES = 1 << 14


class FolderSource:
    """Images of a folder and of those below it, by name; of a table, by its rows.

    A sample's key is its image's place below the folder (or the column `source.columns.key`). Several rows of one image are
    one sample with all captions; images that no table names are not part of the input.
    """

    unique_keys = False
    has_images = True

    def __init__(self, settings: SourceSettings):
        assert settings.images is not None
        self._images = ImageFolder(storage.location(settings.images, "source.images"), "source.images")
        self._given = Files([settings.captions], TABLES, "captions") if settings.captions else None
        self._columns = settings.columns
        self._extra = settings.extra
        self._read: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
        self.root = storage.redacted(self._images.root)

    @cached_property
    def _tree(self) -> dict[str, storage.FileStat]:
        """All files below the folder, listed once."""
        found = storage.tree_entries(self._images.root)
        return {name: stat for name, stat in found.items() if not is_clutter(name)}

    @cached_property
    def _tables(self) -> list[Unit]:
        """The tables; none where captions lie beside the images."""
        if self._given:
            return self._given.units()
        names = [n for n in self._tree if n.rsplit("/", 1)[-1].lower() in {f"metadata{s}" for s in TABLES}]
        return [Unit(n, self._tree[n].n_bytes, self._tree[n].version) for n in names]

    def units(self) -> list[Unit]:
        if self._tables:
            return [part for table in self._tables for part in _cut(table, len(self._rows(table)))]
        counts: dict[str, int] = {}
        for name in self._tree:
            if name.lower().endswith(IMAGES):
                folder = name.rpartition("/")[0]
                counts[folder] = counts.get(folder, 0) + 1
        if not counts:
            raise FileNotFoundError(f"source.images: {self.root} holds no images ({', '.join(IMAGES)})")
        return [part for folder, n in counts.items() for part in _cut(Unit(f"{folder}/"), n)]

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        if not unit.location.endswith("/"):
            yield from map(dict, self._rows(unit)[unit.start : unit.stop])
            return
        folder = unit.location.removesuffix("/")
        sizes = storage.listing(self._images.url(folder) if folder else self._images.root)
        names = [n for n in sizes if n.lower().endswith(IMAGES) and not is_clutter(n)]
        if len(names) < unit.stop:
            raise InputChanged(f"{folder or 'the folder'} holds {len(names)} images, {unit.stop} were listed")
        yield from storage.map_threads(
            lambda name: self._beside(folder, name, sizes), names[unit.start : unit.stop]
        )

    def _beside(self, folder: str, name: str, sizes: dict[str, int]) -> dict[str, Any]:
        """The row of an image with captions beside it."""
        stem, place = name.rpartition(".")[0], f"{folder}/" if folder else ""
        text = next((stem + s for s in TEXTS if stem + s in sizes), None)
        document = stem + DOCUMENT if stem + DOCUMENT in sizes else None
        lines, record = (
            storage.read_bytes(self._images.url(place + n)) if n else None for n in (text, document)
        )
        captions, readable = captions_of_members(lines, record, self._columns.caption)
        problem = ""
        if text is None and document is None:
            problem = f"no_caption: no {', '.join((*TEXTS, DOCUMENT))} beside it"
        elif not captions and not readable:
            problem = "bad_json"
        return index_row(
            place + name,
            place + name,
            captions or [lines or b""],
            n_bytes=sizes[name],
            problem=problem,
            extra=extra_of_json(record, self._extra),
        )

    def _rows(self, table: Unit) -> list[dict[str, Any]]:
        """All rows of a table; remembered, since its units share them."""
        key = (table.location, table.n_bytes, table.version)
        if key not in self._read:
            folder = "" if self._given else table.location.rpartition("/")[0]
            rows: dict[str, dict[str, Any]] = {}
            for number, record in enumerate(records_of(self._url(table), self._columns)):
                row = self._row(record, folder, f"{table.location}:{number}")
                first = rows.setdefault(row["source_key"], row)
                if first is not row:
                    _add_captions(first, row)
            self._read = {key: list(rows.values())}
        return self._read[key]

    def _row(self, record: Record, folder: str, place: str) -> dict[str, Any]:
        if isinstance(record, str):
            return index_row(place, "", [], problem=f"bad_record: {record}")
        name = record.get(path_column(self._columns, record) or "")
        own = record.get(self._columns.key) if self._columns.key else None
        location, n_bytes, problem = "", -1, ""
        try:
            path = f"{folder}/{name}" if folder and isinstance(name, str) else name
            location, n_bytes = self._images.find(path)
        except BadSample as e:
            problem = f"{e.reason}: {e.detail}"
        key = (
            str(own)
            if own not in (None, "")
            else location or (name if isinstance(name, str) else "") or place
        )
        captions = captions_of_record(record, self._columns.caption)
        extra = extra_of(record, self._extra)
        return index_row(key, location, captions, n_bytes=n_bytes, problem=problem, extra=extra)

    def _url(self, table: Unit) -> str:
        if self._given:
            return self._given.unchanged(table)
        return self._images.url(table.location)

    def read(self, row: dict[str, Any]) -> bytes:
        return self._images.read(row["location"], row["n_bytes"])

    def check(self) -> None:
        self._images.check()

    def identity(self) -> dict[str, Any]:
        """Names and sizes of images and of captions beside them; the bytes of tables."""
        kinds = IMAGES if self._tables else (*IMAGES, *TEXTS, DOCUMENT)
        sizes = [(n, s.n_bytes) for n, s in self._tree.items() if n.lower().endswith(kinds)]
        tables = [storage.sha256(self._url(table)) for table in self._tables]
        return {"n_files": len(sizes), "sha256": digest(sorted(sizes)), "tables": digest(tables)}


def _cut(unit: Unit, n: int) -> list[Unit]:
    """A unit of n rows as several of at most `UNIT_IMAGES`."""
    starts = range(0, n, UNIT_IMAGES)
    return [Unit(unit.location, unit.n_bytes, unit.version, i, min(i + UNIT_IMAGES, n)) for i in starts]


def _add_captions(first: dict[str, Any], row: dict[str, Any]) -> None:
    """Another row of the same image: its captions join those of the first."""
    first["captions"] = list(dict.fromkeys([*first["captions"], *row["captions"]]))
    if first["captions"] and first["problem"] in ("no_caption", "empty_caption"):
        first["problem"] = ""


def load(settings: SourceSettings) -> FolderSource:
    return FolderSource(settings)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {"columns": asdict(settings.columns), "extra": settings.extra}
