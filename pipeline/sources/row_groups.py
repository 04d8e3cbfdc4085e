"""Row groups of foreign tables, those with images among them, as samples need them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pipeline.images import BadSample
from pipeline.sources import InputChanged
from pipeline.sources.columns import image_column, path_column
from pipeline.sources.parquet_files import Damaged
from pipeline.sources.settings import ColumnSettings


class Groups:
    """The image cells of the last few row groups, with their tables open; samples are read in order."""

    def __init__(
        self,
        columns: ColumnSettings,
        table: Callable[[str], Any],
        damage: str,
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


def read_twice(table: Any, group: int, columns: list[str]) -> pa.Table:
    """A row group, read again before it is called damaged."""
    try:
        return table.read_group(group, columns)
    except Damaged:
        return table.read_group(group, columns)


def columns_of_images(columns: ColumnSettings, names: list[str]) -> list[str]:
    """The columns that say what a row's image is."""
    found = (image_column(columns, names), path_column(columns, names))
    return [name for name in dict.fromkeys(found) if name]
