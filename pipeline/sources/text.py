"""Captions without images: a caption a line (`text`), or CC3M's lines of caption, TAB, url (`tsv`)."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import Any

import storage
from pipeline.sources import Unit, index_row
from pipeline.sources.files import Files, files_identity
from pipeline.sources.settings import SourceSettings
from pipeline.sources.tar_bytes import Compressed, tar_bytes

UNIT_BYTES = 4 << 20
#: Bytes of a line that are read; the rest of it is passed over.
MAX_LINE = 1 << 20
_SUFFIXES = (".txt", ".tsv", ".text", ".csv", ".gz", ".bz2", ".xz")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class TextSource:
    """Each line that is not blank is a sample without an image. Lines are found by byte ranges, so that large files are
    read by many workers; a compressed file is one unit."""

    unique_keys = True
    has_images = False

    def __init__(self, settings: SourceSettings):
        self._files = Files(settings.url_list(), _SUFFIXES, "urls")
        self._first_field = settings.kind == "tsv"
        self.root = self._files.root

    def units(self) -> list[Unit]:
        found = []
        for unit in self._files.units():
            if unit.n_bytes < 0 or unit.location.lower().endswith(_COMPRESSED):
                found.append(unit)
                continue
            for start in range(0, unit.n_bytes, UNIT_BYTES):
                stop = min(start + UNIT_BYTES, unit.n_bytes)
                found.append(Unit(unit.location, unit.n_bytes, unit.version, start, stop))
        return found

    def index(self, unit: Unit) -> Iterator[dict[str, Any]]:
        for offset, line in self._lines(unit):
            if not offset and line.startswith(_UTF_16):
                raise ValueError(f"source.urls: {unit.location} is in UTF-16; UTF-8 is needed")
            text = line.decode("utf-8", "replace").strip("\r\n\ufeff")
            caption = _first_field(text) if self._first_field else text
            row = index_row(f"{unit.location}:{offset}", unit.location, caption, offset=offset)
            if row["captions"]:
                yield row

    def _lines(self, unit: Unit) -> Iterator[tuple[int, bytes]]:
        """(byte offset, line) of the lines that start inside the unit."""
        url = self._files.unchanged(unit)
        with storage.open_read(url) as file:
            data = tar_bytes(url, file, unit.n_bytes) if unit.location.lower().endswith(_COMPRESSED) else None
            reader = io.BufferedReader(_Contents(data), 1 << 20) if isinstance(data, Compressed) else file
            offset = unit.start
            if reader is file:
                file.seek(max(0, offset - 1))
            if offset:
                offset += _pass_line(reader) - 1
            while unit.stop < 0 or offset < unit.stop:
                line = reader.readline(MAX_LINE)
                if not line:
                    break
                n = len(line) + (0 if line.endswith(b"\n") else _pass_line(reader))
                yield offset, line
                offset += n
        if isinstance(data, Compressed) and data.damage:
            raise ValueError(f"source.urls: {unit.location}: {data.damage}")

    def read(self, row: dict[str, Any]) -> bytes:
        raise ValueError("source.kind: text and tsv have captions alone, no images")

    def check(self) -> None:
        self._files.check()

    def identity(self) -> dict[str, Any]:
        return files_identity(self._files.units())


class _Contents(io.RawIOBase):
    """The contents of a compressed file as a stream that reads onwards."""

    def __init__(self, data: Compressed):
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._data.at(self._position, len(buffer))
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


def _pass_line(file: Any) -> int:
    """Reads to the end of the line; how many bytes that were."""
    n = 0
    while piece := file.readline(MAX_LINE):
        n += len(piece)
        if piece.endswith(b"\n"):
            break
    return n


def _first_field(line: str) -> str:
    """The caption of a CC3M line. Quotes are part of the text unless they enclose the whole field."""
    field = line.split("\t", 1)[0]
    if len(field) > 1 and field[0] == field[-1] == '"':
        try:
            return next(csv.reader(io.StringIO(field)), [field])[0]
        except csv.Error:  # longer than the csv module reads
            return field[1:-1]
    return field


def load(settings: SourceSettings) -> TextSource:
    return TextSource(settings)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {}
