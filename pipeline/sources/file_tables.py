"""Tables of file names and captions: CSV, TSV, JSON lines, parquet -> records, whatever some of their lines look like."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

import storage
from concept_pool.captions import decode_text, parse_json
from pipeline.sources.columns import path_column
from pipeline.sources.settings import ColumnSettings

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
#: Fields of a table without a header.
_FIELDS = ("file_name", "caption")
#: Characters of a field; Python's own limit is for small machines.
_MAX_FIELD = 1 << 20

#: What a line holds, or what is wrong with it.
Record = Mapping[str, Any] | str


def records_of(url: str, columns: ColumnSettings) -> Iterator[Record]:
    """The records of a table, in order. ValueError, naming the file, where no column says which image is meant."""
    name = storage.redacted(url).lower()
    if name.endswith(".jsonl"):
        yield from _of_lines(storage.read_bytes(url))
        return
    if name.endswith(".parquet"):
        table = storage.read_table(url)
        _check(table.column_names, columns, url)
        for batch in table.to_batches():
            yield from batch.to_pylist()
        return
    yield from _of_rows(
        decode_text(storage.read_bytes(url)), "\t" if name.endswith(".tsv") else ",", columns, url
    )


def _of_lines(data: bytes) -> Iterator[Record]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found = parse_json(line)
        except ValueError as e:
            yield f"line {number}: {e}"
            continue
        yield found if isinstance(found, dict) else f"line {number} is no object"


def _of_rows(text: str, delimiter: str, columns: ColumnSettings, url: str) -> Iterator[Record]:
    """Rows of comma- or tab-separated text, with a header or, where the first field is an image's name, without."""
    csv.field_size_limit(_MAX_FIELD)
    file = io.StringIO(text, newline="")
    rows = csv.reader(file) if delimiter == "," else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    header: list[str] | None = None
    try:
        for row in rows:
            if not any(field.strip() for field in row):
                continue
            if header is None:
                header = [field.strip() for field in row]
                if path_column(columns, header) is not None or not _is_file_name(header[0]):
                    _check(header, columns, url)
                    continue
                header = list(_FIELDS)
            if len(row) < 2:
                yield f"line {rows.line_num} has one field"
            else:
                yield dict(zip(header, row, strict=False))
    except csv.Error as e:
        raise ValueError(f"source.captions: {storage.redacted(url)}, line {rows.line_num}: {e}") from None


def _is_file_name(text: str) -> bool:
    stem, dot, extension = text.rpartition(".")
    return bool(stem and dot) and extension.isalnum() and 2 < len(extension) < 5


def _check(names: list[str], columns: ColumnSettings, url: str) -> None:
    if path_column(columns, names) is None:
        wanted = columns.path or "file_name or path"
        raise ValueError(
            f"source.captions: {storage.redacted(url)} has the columns {', '.join(names)[:300]}; needed: {wanted}"
        )
