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
STATE, SPLITS, INFO = "state.json", "dataset_dict.json", "dataset_info.json"


class SavedFiles(Files):
    """The Arrow files of saved datasets: of a folder those that its records list, in that order."""

    def _files_of(self, url: str) -> list[str]:
        if not storage.is_folder(url):
            return [url]
        splits = self._record(url, SPLITS)
        folders = [url]
        if splits is not None:
            folders = [storage.join(url, _name(s, SPLITS)) for s in _listed(splits, "splits", SPLITS)]
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
        files = _listed(state, "_data_files", STATE)
        if not files:
            raise ValueError(f"{self._key}: {storage.redacted(folder)} was saved without a row")
        names = [file.get("filename") if isinstance(file, dict) else file for file in files]
        return [storage.join(folder, _name(name, STATE)) for name in names]

    def _record(self, folder: str, name: str) -> Any:
        """A JSON object of the folder; None where no such file is there."""
        try:
            record = parse_json(storage.read_bytes(storage.join(folder, name)))
            if not isinstance(record, dict):
                raise ValueError("it is no JSON object")
        except FileNotFoundError:
            return None
        except ValueError as e:
            raise ValueError(f"{self._key}: {name} in {storage.redacted(folder)} is damaged: {e}") from None
        return record


class SavedSource(ParquetSource):
    """Rows of saved datasets, in the order of splits, files and rows; columns as in parquet files (`ParquetSource`).

    An Arrow file is a unit. A damaged batch is a row `damaged_arrow`, and so is what a file that is cut short lacks.
    """

    suffixes = SUFFIXES
    damage = "damaged_arrow"

    def _parts(self, unit: Unit) -> Iterator[Unit]:
        yield unit

    def _must_have_held(self, unit: Unit) -> int:
        """As of parquet files; of the only file of a folder, the rows that `dataset_info.json` counts."""
        folder = self._files.url(unit.location).rpartition("/")[0]
        try:
            return _counted(folder) or super()._must_have_held(unit)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return super()._must_have_held(unit)


def _counted(folder: str) -> int:
    """The examples of a folder's split, by `dataset_info.json`, which lists all splits; 0 where it has other files too."""
    state, info = (parse_json(storage.read_bytes(storage.join(folder, name))) for name in (STATE, INFO))
    if len(state["_data_files"]) != 1:
        return 0
    splits = info["splits"]
    split = state.get("_split") or (next(iter(splits)) if len(splits) == 1 else "")
    return max(0, int(splits[split]["num_examples"]))


def _listed(record: dict[str, Any], key: str, name: str) -> list[Any]:
    """A list of a record. ValueError where it has none."""
    values = record.get(key)
    if not isinstance(values, list):
        raise ValueError(f"source.urls: {name} is damaged: it has no list `{key}`")
    return values


def _name(value: Any, record: str) -> str:
    """A name that a record gives to a file or folder beside it. ValueError where it leads elsewhere."""
    if (
        not isinstance(value, str)
        or not value
        or value.startswith("/")
        or ".." in value.split("/")
        or "://" in value
    ):
        raise ValueError(f"source.urls: {record} names {str(value)[:100]!r}, which is not in its folder")
    return value


def load(settings: SourceSettings) -> SavedSource:
    return SavedSource(settings, SavedFiles, ArrowTable)


def describe(settings: SourceSettings) -> dict[str, Any]:
    return {"columns": asdict(settings.columns), "extra": settings.extra}
