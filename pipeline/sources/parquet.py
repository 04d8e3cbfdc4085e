"""Parquet files with a key, an image (bytes or path) and captions a row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import storage
from concept_pool.captions import caption_fields, captions_of, captions_of_record, decode_text
from pipeline.images import BadSample
from pipeline.sources import InputChanged, Unit, index_row
from pipeline.sources.columns import image_column, key_column, path_column
from pipeline.sources.extra import extra_of
from pipeline.sources.files import Files, digest, files_identity
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.parquet_files import Damaged, Table, cell, cells, read_twice
from pipeline.sources.parquet_images import (
    Groups,
    columns_of_images,
    columns_of_paths,
    holds_bytes,
    image_of,
    kind_of,
)
from pipeline.sources.settings import SourceSettings

SUFFIXES = (".parquet", ".parq", ".pq")
#: A file larger than this is cut into units of about so many rows; its footer is read for that.
LARGE_FILE = 64 << 20
UNIT_ROWS = 1 << 16
#: Bytes of a row where no file tells.
USUAL_ROW = 32 << 10


class ParquetSource:
    """Rows of parquet files, in file and row order.

    Columns (`source.columns` renames them): `key` (optional: the file's location and the row otherwise); `image` (bytes; a
    struct with `bytes` and `path` as Hugging Face datasets write it; or a path), or img2dataset's `jpg`; and `path` (below
    `source.images` where given, else below the file's folder), of which bytes win; captions as `captions_of_record` reads
    them. A file, or a row group, that is damaged is a row `damaged_parquet` with the number of rows that it held.
    """

    unique_keys = False
    has_images = True
    #: Endings of its files, and the reason of a row that stands for damage.
    suffixes: tuple[str, ...] = SUFFIXES
    damage = "damaged_parquet"

    def __init__(
        self, settings: SourceSettings, files: type[Files] = Files, table: Callable[[str], Any] = Table
    ):
        self._files = files(settings.url_list(), self.suffixes, "urls")
        self._open = table
        self._columns = settings.columns
        self._column = settings.columns.caption
        self._extra = settings.extra
        self._images = settings.images and storage.location(settings.images, "source.images")
        self._folders: dict[str, ImageFolder] = {}
        self._units: list[Unit] | None = None
        self._groups = Groups(self._columns, table, self.damage)
        self.root = self._files.root

    def units(self) -> list[Unit]:
        self._units = self._files.units()
        return [part for unit in self._units for part in self._parts(unit)]

    def _parts(self, unit: Unit) -> Iterator[Unit]:
        if unit.n_bytes <= LARGE_FILE:
            yield unit
            return
        try:
            with self._open(self._files.url(unit.location)) as table:
                starts = table.starts
        except Damaged:
            yield unit
            return
        begin = 0
        for end in starts[1:]:
            if end - begin >= UNIT_ROWS or end == starts[-1]:
                yield Unit(unit.location, unit.n_bytes, unit.version, begin, end)
                begin = end

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        url = self._files.unchanged(unit)
        for attempt in (1, 2):  # damage is what is there twice
            try:
                table = self._open(url)
                break
            except Damaged as e:
                if attempt == 2:
                    yield self._damage_row(unit.location, 0, self._must_have_held(unit), str(e))
                    return
            except IsADirectoryError:
                raise ValueError(f"source.urls: {unit.location} is a folder") from None
        with table:
            yield from self._index_table(table, unit)
            if table.cut_short:
                lost = self._must_have_held(unit) - table.n_rows
                yield self._damage_row(unit.location, table.n_rows, lost, "the file is cut short")

    def _index_table(self, table: Table, unit: Unit) -> Iterator[dict[str, Any]]:
        names = table.schema.names
        found = caption_fields(names, self._column)
        if not found:
            wanted = self._column or "captions, caption or text"
            raise ValueError(
                f"source.urls: {unit.location} has the columns {', '.join(names)[:300]}; needed: {wanted}"
            )
        no_image = (
            "" if columns_of_images(self._columns, names) else f"no_image: its columns are {', '.join(names)}"
        )
        key = key_column(self._columns, names)
        columns = list(
            dict.fromkeys([*([key] if key else []), *found, *(n for n in self._extra if n in names)])
        )
        for group in table.groups():
            row = table.starts[group]
            if row < unit.start or 0 <= unit.stop <= row:
                continue
            try:
                read = read_twice(table, group, columns)
            except Damaged as e:
                yield self._damage_row(unit.location, row, table.starts[group + 1] - row, str(e))
                continue
            for cells_of_row in zip(*map(cells, read.columns), strict=True):
                record = dict(zip(read.column_names, cells_of_row, strict=True))
                yield self._index_row(record, unit.location, row, no_image)
                row += 1

    def _index_row(self, record: dict[str, Any], location: str, row: int, problem: str) -> dict[str, Any]:
        key = " ".join(captions_of(record.get(key_column(self._columns, record) or ""))[:1])
        captions = captions_of_record(record, self._column)
        if not captions:
            blank = any(record[n] not in (None, []) for n in caption_fields(record, self._column))
            problem = problem or ("empty_caption" if blank else "no_caption")
        extra = extra_of(record, self._extra)
        return index_row(
            key or f"{location}:{row}", location, captions, row=row, problem=problem, extra=extra
        )

    def _damage_row(self, location: str, row: int, n_rows: int, detail: str) -> dict[str, Any]:
        problem = f"{self.damage}: {detail}"
        return index_row(
            f"{location}:{row}", location, [], row=row, problem=problem, n_samples=max(1, n_rows)
        )

    def _must_have_held(self, unit: Unit) -> int:
        """The rows of a file that cannot be opened, by its size and by those of its neighbours, as it may be cut short."""
        sizes, row_bytes = [unit.n_bytes], []
        for other in (self._units or self._files.units())[:16]:
            if other.location != unit.location:
                try:
                    with self._open(self._files.url(other.location)) as table:
                        row_bytes.append(other.n_bytes / max(1, table.n_rows))
                        sizes.append(other.n_bytes)
                except Damaged:
                    continue
        usual = statistics.median(row_bytes) if row_bytes else USUAL_ROW
        return math.ceil(max(sizes[0], statistics.median(sizes[1:] or sizes)) / usual)

    def read(self, row: dict[str, Any]) -> bytes:
        table, first = self._groups.get(self._files.url(row["location"]), row["row"])
        if row["row"] - first >= table.num_rows:
            raise InputChanged(f"{row['location']} has no row {row['row']} any more")
        image, path = (
            cell(table.columns[table.column_names.index(name)][row["row"] - first]) if name else None
            for name in (
                image_column(self._columns, table.column_names),
                path_column(self._columns, table.column_names),
            )
        )
        data, inner = image_of(image)
        if data is not None:
            return data
        names = [p for p in (inner, path) if p]
        if not names:
            raise BadSample("no_image", "the image cell is null" if image is None else kind_of(image))
        return self._read_path(names, row["location"])

    def _read_path(self, names: list[Any], location: str) -> bytes:
        folder = self._folder(location)
        for name in names[:-1]:
            try:
                return folder.read(*folder.find(_text(name)))
            except BadSample:
                continue
        return folder.read(*folder.find(_text(names[-1])))

    def _folder(self, location: str) -> ImageFolder:
        """Where the relative paths of a file lead: below `source.images`, else below the file's folder."""
        root = self._images or self._files.url(location).rsplit("/", 1)[0]
        if root not in self._folders:
            self._folders[root] = ImageFolder(
                root, "source.images" if self._images else "the folder of the table"
            )
        return self._folders[root]

    def check(self) -> None:
        self._files.check()
        if self._images:
            self._folder("").check()

    def identity(self) -> dict[str, Any]:
        """Names and sizes of the files, and of the images that their paths name."""
        units = self._units = self._files.units()
        found = files_identity(units)
        sizes = [size for unit in units for size in self._image_sizes(unit)]
        return {**found, "images_sizes_sha256": digest(sizes)} if sizes else found

    def _image_sizes(self, unit: Unit) -> Iterator[tuple[str, int]]:
        try:
            with self._open(self._files.url(unit.location)) as table:
                names = table.schema.names
                image, path = image_column(self._columns, names), path_column(self._columns, names)
                columns = [*columns_of_paths(table.schema, image), *([path] if path else [])]
                if not columns or holds_bytes(table, image):
                    return
                for group in table.groups():
                    read = table.read_group(group, columns)
                    for column in read.columns:
                        for value in cells(column):
                            text = _text(value.get("path") if isinstance(value, dict) else value)
                            if text:
                                yield self._size_of(text, unit.location)
        except Damaged:
            return

    def _size_of(self, path: str, location: str) -> tuple[str, int]:
        try:
            return self._folder(location).find(path)
        except BadSample:
            return "", -1


def _text(value: Any) -> str:
    return decode_text(value) if isinstance(value, bytes) else value if isinstance(value, str) else ""


def load(settings: SourceSettings) -> ParquetSource:
    return ParquetSource(settings)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {"columns": asdict(settings.columns), "extra": settings.extra}
