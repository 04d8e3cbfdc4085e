"""Hugging Face datasets as `save_to_disk` leaves them: a folder of Arrow files, read without the library `datasets`.

`state.json` lists the files of a dataset in order; `dataset_dict.json` names the splits of several, a folder each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import storage
from concept_pool.captions import parse_json
from pipeline.sources import Unit
from pipeline.sources.arrow_files import ArrowTable
from pipeline.sources.files import Files
from pipeline.sources.parquet import ParquetSource
from pipeline.sources.settings import SourceSettings

SUFFIXES = (".arrow",)
STATE, SPLITS = "state.json", "dataset_dict.json"


class SavedFiles(Files):
    """The Arrow files of saved datasets: of a folder those that its records list, in that order."""

    def _files_of(self, url: str) -> list[str]:
        if not storage.is_folder(url):
            return [url]
        splits = self._record(url, SPLITS)
        folders = [storage.join(url, _name(split)) for split in splits["splits"]] if splits else [url]
        return [file for folder in folders for file in self._files_in(folder)]

    def _files_in(self, folder: str) -> list[str]:
        state = self._record(folder, STATE)
        if state is None:
            raise ValueError(
                f"{self._key}: {storage.redacted(folder)} has no {STATE}: it is no dataset that save_to_disk wrote"
            )
        if state.get("_indices_data_files"):
            raise ValueError(
                f"{self._key}: {storage.redacted(folder)} was saved with a table of indices, by an old version of "
                "datasets; load it and save it again"
            )
        return [storage.join(folder, _name(file["filename"])) for file in state["_data_files"]]

    def _record(self, folder: str, name: str) -> Any:
        """A JSON file of the folder; None where it is not there."""
        try:
            return parse_json(storage.read_bytes(storage.join(folder, name)))
        except FileNotFoundError:
            return None
        except ValueError as e:
            raise ValueError(f"{self._key}: {name} in {storage.redacted(folder)} is damaged: {e}") from None


class SavedSource(ParquetSource):
    """Rows of saved datasets, in the order of splits, files and rows; columns as in parquet files (`ParquetSource`).

    An Arrow file is a unit. A damaged batch is a row `damaged_arrow`, and so is what a file that is cut short lacks.
    """

    suffixes = SUFFIXES
    damage = "damaged_arrow"

    def _parts(self, unit: Unit) -> Iterator[Unit]:
        yield unit


def _name(value: Any) -> str:
    """A name that a record gives to a file or folder beside it. ValueError where it leads elsewhere."""
    if (
        not isinstance(value, str)
        or not value
        or value.startswith("/")
        or ".." in value.split("/")
        or "://" in value
    ):
        raise ValueError(
            f"source.urls: {STATE} names the file {str(value)[:100]!r}, which is not in its folder"
        )
    return value


def load(settings: SourceSettings) -> SavedSource:
    return SavedSource(settings, SavedFiles, ArrowTable)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {"columns": asdict(settings.columns), "extra": settings.extra}
