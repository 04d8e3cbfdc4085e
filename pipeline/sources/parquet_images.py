"""What the image of a parquet row is: which columns say so, and their cells, a few row groups at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pipeline.images import BadSample
from pipeline.sources import InputChanged
from pipeline.sources.columns import image_column, path_column
from pipeline.sources.parquet_files import Damaged, Table, read_twice
from pipeline.sources.settings import ColumnSettings


class Groups:
    """The image cells of the last few row groups, with their tables open; samples are read in order.

    table: opens a file; damage: the reason where it is damaged.
    """

    def __init__(
        self,
        columns: ColumnSettings,
        table: Callable[[str], Any] = Table,
        damage: str = "damaged_parquet",
        max_groups: int = 3,
        max_open: int = 2,
    ):
        self._columns, self._open, self._damage = columns, table, damage
        self._tables: OrderedDict[str, Any] = OrderedDict()
        self._groups: OrderedDict[tuple[str, int], tuple[pa.Table, int]] = OrderedDict()
        self._max_groups, self._max_open = max_groups, max_open
        self._lock = threading.Lock()

    def get(self, url: str, row: int) -> tuple[pa.Table, int]:
        """The row group that holds a row, and the number of its first row. BadSample where it is damaged."""
        with self._lock:
            try:
                table = self._table(url)
                group = table.group_of(row)
                if group >= len(table.groups()):
                    raise InputChanged(f"{url.rsplit('/', 1)[-1]} has no row {row} any more")
                key = (url, group)
                if key not in self._groups:
                    columns = columns_of_images(self._columns, table.schema.names)
                    self._groups[key] = (read_twice(table, group, columns), table.starts[group])
                    if len(self._groups) > self._max_groups:
                        self._groups.popitem(last=False)
            except Damaged as e:
                raise BadSample(self._damage, str(e)) from e
            self._groups.move_to_end(key)
            return self._groups[key]

    def _table(self, url: str) -> Any:
        if url not in self._tables:
            self._tables[url] = self._open(url)
            if len(self._tables) > self._max_open:
                self._tables.popitem(last=False)[1].close()
        self._tables.move_to_end(url)
        return self._tables[url]


def columns_of_images(columns: ColumnSettings, names: list[str]) -> list[str]:
    """The columns that say what a row's image is."""
    found = (image_column(columns, names), path_column(columns, names))
    return [name for name in dict.fromkeys(found) if name]


def columns_of_paths(schema: pa.Schema, image: str | None) -> list[str]:
    """The part of the column of images that may hold paths: the whole of a text column, the field of a struct."""
    if image is None:
        return []
    kind = schema.field(image).type
    if pa.types.is_struct(kind):
        return [f"{image}.path"] if kind.get_field_index("path") >= 0 else []
    return [image] if _is_text(kind) else []


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def holds_bytes(table: Table, image: str | None) -> bool:
    """Whether the footer says that the file's images lie in it: some value of a binary column is not null."""
    if image is None:
        return False
    kind = table.schema.field(image).type
    return table.has_values(f"{image}.bytes" if pa.types.is_struct(kind) else image) and not _is_text(kind)


def image_of(value: Any) -> tuple[bytes | None, Any]:
    """Bytes and path of an image cell."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        return (bytes(data) if isinstance(data, (bytes, bytearray)) and (data or not path) else None), path
    if isinstance(value, (bytes, bytearray)):
        return bytes(value), None
    return None, value if isinstance(value, str) else None


def kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return f"the image cell is a struct of {', '.join(map(str, value))[:100]} without bytes or a path"
    return f"the image cell is of the type {type(value).__name__}"
